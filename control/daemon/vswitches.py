"""Which vSwitch the next ENI comes from: policy, free addresses, and what has just refused."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from control.model.clock import Clock
from control.model.cloud import Cloud, VSwitch
from control.model.errors import Cause, CloudError, TerwayError
from control.model.ids import VSwitchId
from control.model.policies import VSwitchPolicy

CACHE_SECONDS = 600.0
"""How long a DescribeVSwitches answer is believed, as upstream's daemon does."""


def pick(
    vswitches: Sequence[VSwitch], policy: VSwitchPolicy, rng: random.Random, *, zone: str
) -> VSwitch | None:
    """One in ``zone`` that has a free address. Pure but for ``rng``.

    ``ordered`` is read as ``most``, which is what upstream's daemon makes of it.
    """
    fit = [v for v in vswitches if v.zone == zone and v.available > 0]
    if not fit:
        return None
    if policy is VSwitchPolicy.RANDOM:
        return rng.choice(fit)
    return max(fit, key=lambda v: (v.available, -vswitches.index(v)))


class VSwitches:
    """The node's vSwitches, described once per ten minutes and only when an ENI is about to be made."""

    def __init__(
        self, cloud: Cloud, clock: Clock, ids: Sequence[VSwitchId], *, zone: str, policy: VSwitchPolicy
    ) -> None:
        self._cloud = cloud
        self._clock = clock
        self._ids = tuple(ids)
        self._zone = zone
        self._policy = policy
        self._known: tuple[VSwitch, ...] = ()
        self._read_at = float("-inf")
        self._rng = random.Random()

    async def choose(
        self, refusals: Mapping[VSwitchId, TerwayError], *, last: Collection[str] = ()
    ) -> VSwitchId:
        """One that has refused nothing; those of ``last`` only if there is no other.

        Raises CloudError naming the vSwitches if none can take an ENI: what they have refused with, if one
        of the node's zone has (``refusals``, the latest at the end).
        """
        if self._clock.now() - self._read_at > CACHE_SECONDS:
            self._known = await self._cloud.vswitches(self._ids)
            self._read_at = self._clock.now()
        able = [v for v in self._known if v.vswitch_id not in refusals]
        plenty = [v for v in able if v.vswitch_id not in last]
        for candidates in (plenty, able):
            chosen = pick(candidates, self._policy, self._rng, zone=self._zone)
            if chosen is not None:
                return chosen.vswitch_id
        self._read_at = float("-inf")
        raise self._none_left(refusals)

    def _none_left(self, refusals: Mapping[VSwitchId, TerwayError]) -> CloudError:
        known = {v.vswitch_id: v for v in self._known}

        def state(id_: VSwitchId) -> str:
            if id_ not in known:
                return "not found"
            if known[id_].zone != self._zone:
                return f"zone {known[id_].zone}"
            return "refused a moment ago" if id_ in refusals else f"{known[id_].available} free"

        told = ", ".join(f"{i} ({state(i)})" for i in self._ids)
        ours = [e for i, e in refusals.items() if i in known and known[i].zone == self._zone]
        if ours and isinstance(ours[-1], CloudError):
            return _again(ours[-1], "" if all(i in ours[-1].what for i in self._ids) else told)
        if not any(v.zone == self._zone for v in self._known):
            return CloudError(
                f"none of the vSwitches in eni-config is one of zone {self._zone}: {told}",
                cause=Cause.INVALID_VSWITCH,
                action="DescribeVSwitches",
                code="InvalidVSwitchId.NotFound",
                remedy=f"correct `vswitches` in eni-config: give one of this region in zone {self._zone}",
            )
        return CloudError(
            f"No available IP addresses: no vSwitch of zone {self._zone} has one: {told}",
            cause=Cause.VSWITCH_FULL,
            action="DescribeVSwitches",
            code="InvalidVSwitchId.IpNotEnough",
            remedy="add a vSwitch of this zone to `vswitches` in eni-config, or free addresses in these",
        )


def _again(refusal: CloudError, others: str) -> CloudError:
    """What a vSwitch has refused with, for an ENI that found no other one."""
    return CloudError(
        f"{refusal.what}; vSwitches of eni-config: {others}" if others else refusal.what,
        cause=refusal.cause,
        action=refusal.action,
        code=refusal.code,
        request_id=refusal.request_id,
        remedy=refusal.remedy,
        retry_after=refusal.retry_after,
    )
