"""Too few addresses for a call is not too few for a pod.

A call asks for the idle addresses of the pool along with the pod's own, and the cloud gives all of them or
none: a vSwitch with three free addresses refuses a call for six. So after such a refusal one address is asked
for, of what was short and of nothing else, and twice as many after each call that was answered. Only a call
for one that is refused means that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from control.agent.allocation.blocks import CREATION
from control.ipam.sizing import BATCH
from control.model.errors import Cause, TerwayError
from control.model.records import EniRecord, Operation

LASTS = 60.0
"""Seconds from the last refusal after which as many as ever are asked for again."""

GROUP = "the security group"
"""Its size counts the addresses of all its ENIs."""


@dataclass(frozen=True, slots=True)
class _Short:
    most: int
    until: float


class Scarcity:
    """By name: a vSwitch id, an ENI id, ``CREATION`` or ``GROUP``."""

    def __init__(self) -> None:
        self._short: dict[str, _Short] = {}

    def most(self, now: float, *names: str) -> int:
        """How many addresses one call may ask for that all of ``names`` have a part in; ``BATCH`` at most."""
        short = (self._short.get(name) for name in names)
        return min((one.most for one in short if one is not None and now < one.until), default=BATCH)

    def scarce(self, now: float) -> frozenset[str]:
        return frozenset(name for name, one in self._short.items() if now < one.until)

    def refused(self, operation: Operation, eni: EniRecord | None, error: TerwayError, now: float) -> bool:
        """True if a call for one address might succeed where ``operation`` was refused with ``error``.

        ``eni`` is the one that it was about, None for a creation.
        """
        name = _short_of(operation, eni, error.cause)
        if name is None:
            return False
        self._short[name] = _Short(1, now + LASTS)
        return _asked(operation) > 1

    def answered(self, operation: Operation, eni: EniRecord | None) -> None:
        for name in names(operation, eni):
            short = self._short.get(name)
            if short is not None and _asked(operation) >= short.most:
                self._short[name] = _Short(2 * short.most, short.until)
                if 2 * short.most >= BATCH:
                    del self._short[name]


def names(operation: Operation, eni: EniRecord | None) -> tuple[str, ...]:
    """What has a part in it."""
    if eni is not None:
        return (str(eni.eni_id), str(eni.vswitch_id), GROUP)
    return (CREATION, str(operation.vswitch_id), GROUP)


def _short_of(operation: Operation, eni: EniRecord | None, cause: Cause) -> str | None:
    """The one of ``names`` that has too few; None if the refusal is of another kind."""
    itself, vswitch, group = names(operation, eni)
    if eni is None and operation.vswitch_id is None:
        return None  # it was never sent
    return {Cause.VSWITCH_FULL: vswitch, Cause.IP_QUOTA: itself, Cause.SECURITY_GROUP_FULL: group}.get(cause)


def _asked(operation: Operation) -> int:
    return max(operation.ipv4_count, operation.ipv6_count)
