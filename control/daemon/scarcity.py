"""Too few addresses for a call is not too few for a pod.

A call asks for the idle addresses of the pool along with the pod's own, and the cloud gives all of them or
none: a vSwitch with three free addresses refuses a call for six. So after such a refusal one address is asked
for at a time, for a while. Only a call for one that is refused means that there is none.
"""

from __future__ import annotations

from control.model.errors import Cause, TerwayError
from control.model.records import Operation

LASTS = 60.0
"""Seconds from the last such refusal during which it is not tried with more."""

_OF_NUMBER = frozenset({Cause.VSWITCH_FULL, Cause.IP_QUOTA, Cause.SECURITY_GROUP_FULL})


class Scarcity:
    def __init__(self) -> None:
        self._until = float("-inf")

    def lasts(self, now: float) -> bool:
        return now < self._until

    def explains(self, operation: Operation, error: TerwayError, now: float) -> bool:
        """True if a call for one address might succeed where ``operation`` was refused with ``error``."""
        asked_in = operation.eni_id or operation.vswitch_id
        if error.cause not in _OF_NUMBER or not asked_in:
            return False
        self._until = now + LASTS
        return max(operation.ipv4_count, operation.ipv6_count) > 1
