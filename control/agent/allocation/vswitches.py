"""Which vSwitch the next ENI comes from: policy, free addresses, and what has just refused."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Mapping, Sequence

from control.model.clock import Clock
from control.model.cloud import Cloud, VSwitch
from control.model.errors import Cause, CloudError, TerwayError
from control.model.ids import VSwitchId
from control.model.policies import VSwitchPolicy

log = logging.getLogger(__name__)

CACHE_SECONDS = 600.0
"""How long a DescribeVSwitches answer is believed, as upstream's daemon does."""
RETRY_SECONDS = 60.0
"""How long a vSwitch that could not be described is left alone, so that the others do not wait for it."""


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
    """The node's vSwitches, described once per ten minutes and only when an ENI is about to be made.

    Each is described by itself: one whose description fails is as it was last known, and if it has never been
    known the ENI is made in another.
    """

    def __init__(
        self, cloud: Cloud, clock: Clock, ids: Sequence[VSwitchId], *, zone: str, policy: VSwitchPolicy
    ) -> None:
        self._cloud = cloud
        self._clock = clock
        self._ids = tuple(ids)
        self._zone = zone
        self._policy = policy
        self._described: dict[VSwitchId, VSwitch | None] = {}
        """None for one that the cloud does not know."""
        self._read_at: dict[VSwitchId, float] = {}
        self._failures: dict[VSwitchId, TerwayError] = {}
        """Why those that could not be described lately could not."""
        self._rng = random.Random()

    async def choose(
        self, refusals: Mapping[VSwitchId, TerwayError], *, last: Collection[str] = ()
    ) -> VSwitchId:
        """One that has refused nothing; those of ``last`` only if there is no other.

        Raises CloudError naming the vSwitches if none can take an ENI: what they have refused with, if one
        of the node's zone has (``refusals``, the latest at the end). What the description of one failed with,
        if no vSwitch is known at all.
        """
        await self._describe()
        able = [v for v in self._known if v.vswitch_id not in refusals]
        plenty = [v for v in able if v.vswitch_id not in last]
        for candidates in (plenty, able):
            chosen = pick(candidates, self._policy, self._rng, zone=self._zone)
            if chosen is not None:
                return chosen.vswitch_id
        self._read_at.clear()
        raise self._none_left(refusals)

    @property
    def _known(self) -> tuple[VSwitch, ...]:
        found = (self._described.get(id_) for id_ in self._ids)
        return tuple(vswitch for vswitch in found if vswitch is not None)

    async def _describe(self) -> None:
        """Raises TerwayError if each of them failed and none is known from before."""
        now = self._clock.now()
        due = [i for i in self._ids if now - self._read_at.get(i, float("-inf")) > CACHE_SECONDS]
        answers = await asyncio.gather(*map(self._ask, due), return_exceptions=True)
        for id_, answer in zip(due, answers, strict=True):
            if isinstance(answer, TerwayError):
                log.warning("vSwitch %s cannot be described, others are used: %s", id_, answer)
                self._failures[id_] = answer
                self._read_at[id_] = now - CACHE_SECONDS + RETRY_SECONDS
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._failures.pop(id_, None)
                self._described[id_], self._read_at[id_] = answer, now
        if self._failures and not self._known:
            self._read_at.clear()
            raise next(iter(self._failures.values()))

    async def _ask(self, id_: VSwitchId) -> VSwitch | None:
        return next(iter(await self._cloud.vswitches((id_,))), None)

    def _none_left(self, refusals: Mapping[VSwitchId, TerwayError]) -> CloudError:
        known = {v.vswitch_id: v for v in self._known}

        def state(id_: VSwitchId) -> str:
            if id_ not in known:
                return "not described" if id_ in self._failures else "not found"
            if known[id_].zone != self._zone:
                return f"zone {known[id_].zone}"
            return "refused a moment ago" if id_ in refusals else f"{known[id_].available} free"

        told = ", ".join(f"{i} ({state(i)})" for i in self._ids)
        ours = [e for i, e in refusals.items() if i in known and known[i].zone == self._zone]
        if ours and isinstance(ours[-1], CloudError):
            return _again(ours[-1], "" if all(i in ours[-1].what for i in self._ids) else told)
        failure = next((e for e in self._failures.values() if isinstance(e, CloudError)), None)
        if failure is not None:
            return _again(failure, told)
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
