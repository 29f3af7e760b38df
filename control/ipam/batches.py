"""What the end of a call for addresses says about how many the next one may ask for. Pure."""

from __future__ import annotations

from control.ipam.rejections import CREATION, SECURITY_GROUP, Rejections, Scope, of_eni, of_vswitch
from control.model.errors import Cause, TerwayError
from control.model.records import EniRecord, Operation


def batch_rejected(
    table: Rejections, operation: Operation, eni: EniRecord | None, *, error: TerwayError, now: float
) -> bool:
    """True if a call for one address might succeed where ``operation`` was refused with ``error``.

    ``eni`` is the one that it was about, None for a creation.
    """
    scope = _short_of(operation, eni, error.cause)
    if scope is None:
        return False
    table.limit_batch(scope, error, now)
    return _asked(operation) > 1


def batch_answered(table: Rejections, operation: Operation, eni: EniRecord | None) -> None:
    for scope in _scopes(operation, eni):
        table.batch_answered(scope, _asked(operation))


def _scopes(operation: Operation, eni: EniRecord | None) -> tuple[Scope, ...]:
    """What has a part in it: itself, its vSwitch if one was chosen, the security group."""
    if eni is not None:
        return (of_eni(eni.eni_id), of_vswitch(eni.vswitch_id), SECURITY_GROUP)
    if operation.vswitch_id is None:
        return (CREATION, SECURITY_GROUP)
    return (CREATION, of_vswitch(operation.vswitch_id), SECURITY_GROUP)


def _short_of(operation: Operation, eni: EniRecord | None, cause: Cause) -> Scope | None:
    """Which of them has too few; None if the refusal is of another kind."""
    if eni is None and operation.vswitch_id is None:
        return None  # it was never sent
    itself, vswitch, group = _scopes(operation, eni)
    return {Cause.VSWITCH_FULL: vswitch, Cause.IP_QUOTA: itself, Cause.SECURITY_GROUP_FULL: group}.get(cause)


def _asked(operation: Operation) -> int:
    return max(operation.ipv4_count, operation.ipv6_count)
