"""Why no address can be had now: the sentence a pod's operator reads in the event. Pure."""

from __future__ import annotations

from control.daemon.blocks import Block
from control.ipam.stock import PoolStats
from control.model.errors import Cause, PoolExhausted


def exhausted(
    stats: PoolStats, refusal: Block | None, usable_at: float | None, *, now: float, waited: str
) -> PoolExhausted:
    """The last refusal of the cloud if there is one, else cooling addresses, else the node's size.

    ``usable_at`` is when the next cooling address may be used, None if none is cooling.
    """
    state = (
        f"{stats.in_use} of {stats.capacity} addresses in use, {stats.cooling} cooling, {stats.frozen} frozen"
    )
    lead = f"No available IP addresses on this node ({state}{'; ' + waited if waited else ''})"
    if refusal is not None:
        return _refused(lead, refusal, refusal.until - now)
    if usable_at is not None:
        left = max(0.0, usable_at - now)
        return PoolExhausted(
            f"{lead}: every address that is not in use was released a moment ago",
            cause=Cause.COOLING,
            remedy=f"the next one may be used in {left:.0f} s; the runtime tries again",
            retry_after=left,
        )
    return PoolExhausted(
        f"{lead}: the node has as many ENIs and addresses as its instance type or max_eni allows",
        cause=Cause.POOL_LIMIT,
        remedy="schedule the pod elsewhere, use a larger instance type, or raise max_eni",
    )


def _refused(lead: str, block: Block, left: float) -> PoolExhausted:
    error = block.error
    return PoolExhausted(
        f"{lead}: {error.what}",
        cause=error.cause,
        remedy=f"{error.remedy + '; ' if error.remedy else ''}next try in {left:.0f} s",
        retry_after=left,
    )
