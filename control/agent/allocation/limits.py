"""What a node may have, and why no address can be had now: the sentence a pod's operator reads in the
event. Pure.

What happened and on which object comes first, then what to do, then when the next try is, and last how full
the node is. The cause, one word, stands before it in the event.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from control.ipam.rejections import Rejection
from control.ipam.sizing import PoolSizes
from control.ipam.statistics import PoolStats
from control.model.errors import Cause, PoolExhausted

_KUBELET = "the kubelet tries again every 10 to 15 s"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node may have, and by what: ``max_eni`` is eni-config's, 0 if it sets none."""

    sizes: PoolSizes
    instance_type: str
    max_eni: int
    enis: int = 0
    """That it has now."""
    broken: str = ""
    """One of these that serves nobody new at the moment, with the reason; "" if there is none."""

    def __str__(self) -> str:
        limits = f"{self.instance_type} with `max_eni` {self.max_eni}" if self.max_eni else self.instance_type
        enis = "1 ENI" if self.sizes.max_enis == 1 else f"{self.sizes.max_enis} ENIs"
        return f"instance type {limits} gives pods {enis} of {self.sizes.per_eni} addresses"


def exhausted(
    stats: PoolStats, rejection: Rejection | None, usable_at: float | None, *, now: float, limits: Limits
) -> PoolExhausted:
    """The last rejection if there is one, else cooling addresses, else the node's size.

    ``usable_at`` is when the next cooling address may be used, None if none is cooling.
    """
    if rejection is not None:
        return _rejected(stats, rejection, now, limits)
    lead = f"No available IP addresses: {_state(stats)} on this node"
    if usable_at is not None:
        left = max(0.0, usable_at - now)
        return PoolExhausted(
            f"{lead}, and what is not in use was released a moment ago",
            cause=Cause.COOLING,
            remedy=f"nothing to do: the next one may be used in {left:.0f} s{_at(usable_at)}; {_KUBELET}",
            retry_after=left,
        )
    told = f"; {limits.broken}" if limits.broken else ""
    larger = "a larger instance type or `max_eni`" if limits.max_eni else "a larger instance type"
    return PoolExhausted(
        f"{lead}, and {limits}{told}",
        cause=Cause.POOL_LIMIT,
        remedy=f"end another pod of this node, have this one run elsewhere, or use {larger}; {_KUBELET}",
    )


def out_of_patience(stats: PoolStats, waited: float) -> PoolExhausted:
    """Nobody said no in ``waited`` seconds, and nothing came either."""
    return PoolExhausted(
        f"No address has come from the cloud in {waited:.0f} s ({_state(stats)}, {stats.coming} under way)",
        cause=Cause.TIMEOUT,
        remedy=f"see terwayd's log for the call that takes so long; {_KUBELET}",
    )


def _rejected(stats: PoolStats, rejection: Rejection, now: float, limits: Limits) -> PoolExhausted:
    error = rejection.error
    left = max(0.0, rejection.until - now)
    remedy = f"{error.remedy}; " if error.remedy else ""
    if error.cause is Cause.VSWITCH_FULL and limits.enis >= limits.sizes.max_enis:
        remedy += "this node has all the ENIs it may have, so that another vSwitch serves other nodes only; "
    return PoolExhausted(
        error.what,
        cause=error.cause,
        remedy=f"{remedy}next try in {left:.0f} s{_at(rejection.until)}; {_state(stats)}",
        retry_after=left,
    )


def _state(stats: PoolStats) -> str:
    """What is zero is not said, but for the addresses in use."""
    more = ((stats.cooling, "cooling"), (stats.frozen, "frozen"))
    told = "".join(f", {count} {word}" for count, word in more if count)
    return f"{stats.in_use} of {stats.capacity} addresses in use{told}"


def _at(when: float) -> str:
    """An event is read later than it is written."""
    return time.strftime(" (at %H:%M:%S UTC)", time.gmtime(when))
