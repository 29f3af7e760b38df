"""Flow control per API: so many calls in a minute, and none more until the next minute begins.

ECS counts per account, region and API in strict minutes: what is refused in one minute is admitted in the
next, and there is no burst to save up. The code is Throttling.User, the one for an account's own limit;
Throttling and Throttling.Api exist too (the whole service, one API for everybody): set ``code`` for those.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lab.cloud.errors import ApiError

DEFAULT_PER_MINUTE = 500

PER_MINUTE = {
    "DescribeNetworkInterfaces": 800,
    "DescribeNetworkInterfaceAttribute": 2000,
    "DetachNetworkInterface": 400,
    "AssignPrivateIpAddresses": 400,
    "UnassignPrivateIpAddresses": 400,
    "AssignIpv6Addresses": 400,
    "UnassignIpv6Addresses": 400,
    "DescribeInstanceTypes": 400,
    "DescribeVSwitches": 300,
}
"""Upstream's own client limits, which are chosen to stay below the account's; others have the default."""


@dataclass(slots=True)
class Throttle:
    """``limits`` may be changed at run time. Thread-safe."""

    limits: dict[str, int] = field(default_factory=lambda: dict(PER_MINUTE))
    default: int = DEFAULT_PER_MINUTE
    code: str = "Throttling.User"
    announce_retry: bool = False
    """Send x-acs-retry-after, in seconds; the real gateway mostly does not."""
    _minute: int = 0
    _used: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, action: str, *, now: float) -> None:
        """Count one call at lab time ``now``. Raises Throttling.User above the limit of this minute."""
        limit = self.limits.get(action, self.default)
        with self._lock:
            minute = int(now // 60)
            if minute != self._minute:
                self._minute = minute
                self._used.clear()
            used = self._used.get(action, 0)
            if used < limit:
                self._used[action] = used + 1
                return
        raise ApiError(
            self.code,
            f"Request was denied due to user flow control: {action} is limited to {limit} per minute.",
            retry_after=max(1, round(60 - now % 60)) if self.announce_retry else None,
        )
