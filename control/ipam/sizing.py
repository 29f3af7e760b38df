"""How large the pool is, when it grows and when it shrinks. Pure arithmetic, no time and no cloud.

The sizes are upstream's: ENIs for pods = int(adapters * ratio) + shift - 1 (the primary ENI is the node's),
capped by ``max_eni``; capacity = that many times the addresses of one ENI, its primary address included,
since on a secondary ENI that address is given to a pod like any other.

Growth differs on purpose. Upstream asks the cloud for what is waiting; here the call that has to be made
anyway also brings ``max_pool_size`` addresses to idle, which the pool may keep in any case. So ten pods
that come one by one cost two calls and not ten.
"""

from __future__ import annotations

from dataclasses import dataclass

from control.model.cloud import InstanceLimits
from control.model.ids import EniId

BATCH = 10
"""Addresses in one AssignPrivateIpAddresses or CreateNetworkInterface call: the API's own limit."""


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Settings of ``eni-config`` and the instance type, put together."""

    max_enis: int
    """ENIs for pods."""
    per_eni: int
    """Addresses of one family on one ENI, its primary one included."""
    min_pool: int = 0
    """Idle addresses to hold ready."""
    max_pool: int = 5
    """Idle addresses to keep at most."""
    dual: bool = False

    @property
    def capacity(self) -> int:
        return self.max_enis * self.per_eni


def pool_sizes(
    limits: InstanceLimits,
    *,
    min_pool: int,
    max_pool: int,
    max_eni: int = 0,
    min_eni: int = 0,
    ratio: float = 1.0,
    shift: int = 0,
    dual: bool = False,
) -> PoolSizes:
    """``max_eni`` 0 means no cap. ``min_eni`` ENIs' worth of addresses are held idle at least.

    ``dual`` is silently off, as upstream's, if the type has no IPv6 or not as many as IPv4 addresses.
    """
    enis = max(0, int(limits.eni_quantity * ratio) + shift - 1)
    if max_eni:
        enis = min(enis, max_eni)
    floor = max(min_pool, min(min_eni, enis) * limits.ipv4_per_eni)
    sizes = PoolSizes(
        max_enis=enis,
        per_eni=limits.ipv4_per_eni,
        dual=dual and supports_dual(limits),
    )
    floor = min(floor, sizes.capacity)
    return PoolSizes(
        sizes.max_enis, sizes.per_eni, floor, max(floor, min(max_pool, sizes.capacity)), sizes.dual
    )


def supports_dual(limits: InstanceLimits) -> bool:
    return limits.ipv6_per_eni > 0 and limits.ipv6_per_eni == limits.ipv4_per_eni


@dataclass(frozen=True, slots=True)
class EniView:
    """One ENI for the planner, those under creation included.

    ``ipv4`` and ``ipv6`` count every address on it, whatever its state, and what is under way to it.
    """

    eni_id: EniId
    ipv4: int
    ipv6: int = 0
    busy: bool = False
    """An operation on it is under way: another one now would conflict."""
    blocked: bool = False
    """Its vSwitch or quota said no a moment ago."""
    most: int = BATCH
    """Addresses that one call may ask for; less than ``BATCH`` where the cloud had too few a moment ago."""

    @property
    def scarce(self) -> bool:
        return self.most < BATCH


@dataclass(frozen=True, slots=True)
class PoolView:
    enis: tuple[EniView, ...]
    leaving: int
    """ENIs that are being given back: each keeps its place until it is gone."""
    usable: int
    """Idle addresses (pairs, in dual stack) that could be handed out now."""
    coming: int
    """What the operations under way will add."""
    waiting: int
    """Pods that wait for an address."""
    create_blocked: bool = False
    create_most: int = BATCH
    """As an ENI's ``most``."""


@dataclass(frozen=True, slots=True)
class Assign:
    eni_id: EniId
    ipv4: int
    ipv6: int = 0


@dataclass(frozen=True, slots=True)
class Create:
    ipv4: int
    ipv6: int = 0


Step = Assign | Create


@dataclass(frozen=True, slots=True)
class Growth:
    steps: tuple[Step, ...] = ()
    short: int = 0
    """Waiting pods for whom there is no room either, on ENIs that are there or may be made."""


def wanted(view: PoolView, sizes: PoolSizes) -> int:
    """How many more addresses to ask for now.

    Bounded whatever the input: never more than the waiting pods plus ``max_pool``.
    """
    spare = view.usable + view.coming - view.waiting
    if spare < 0:
        return -spare + sizes.max_pool
    return max(0, sizes.min_pool - spare)


def grow(view: PoolView, sizes: PoolSizes) -> Growth:
    """Steps to take now: room on ENIs that serve first, then new ENIs, at most ``BATCH`` per call.

    A busy ENI's room counts as found but gets no step: what comes while a call is under way is coalesced
    into the next call. A new ENI is made only for what no ENI has room for, those of these steps included:
    what one call cannot bring the next one on the same ENI does, which is sooner than attaching another.
    Where addresses are scarce they are asked for last, for pods alone, and of one ENI at a time.
    """
    need = wanted(view, sizes)
    must = max(0, view.waiting - view.usable - view.coming)
    steps: list[Step] = []
    for eni in sorted(view.enis, key=lambda e: (e.scarce, -e.ipv4, e.eni_id)):
        asked, room = must if eni.scarce else need, sizes.per_eni - _held(eni, sizes)
        if asked <= 0 or room <= 0 or eni.blocked:
            continue
        take = min(asked, room, eni.most)
        if not eni.busy:
            steps.append(_assign(eni, take, sizes))
        need -= min(need, room if eni.busy or eni.scarce else take)
        must -= min(must, room)
    free_enis = 0 if view.create_blocked else sizes.max_enis - len(view.enis) - view.leaving
    while free_enis > 0 and must > 0:
        take = min(max(need, must), sizes.per_eni, view.create_most)
        steps.append(_create(take, sizes))
        need -= take if view.create_most >= BATCH else sizes.per_eni
        must -= min(must, sizes.per_eni)
        free_enis -= 1
    if not view.waiting and not steps and need > 0 and free_enis > 0:
        steps.append(_create(min(need, sizes.per_eni, view.create_most), sizes))
    return Growth(tuple(steps), max(0, must))


def _create(take: int, sizes: PoolSizes) -> Create:
    return Create(take, take if sizes.dual else 0)


def _held(eni: EniView, sizes: PoolSizes) -> int:
    """Addresses on it; in dual stack the pairs, since what one family lacks can still be assigned."""
    return min(eni.ipv4, eni.ipv6) if sizes.dual else eni.ipv4


def _assign(eni: EniView, take: int, sizes: PoolSizes) -> Assign:
    """``take`` more addresses or pairs: of each family what it lacks to have that many."""
    target = _held(eni, sizes) + take
    return Assign(eni.eni_id, max(0, target - eni.ipv4), max(0, target - eni.ipv6) if sizes.dual else 0)


def excess(usable: int, sizes: PoolSizes) -> int:
    """Idle addresses to give back at a pool sync."""
    return max(0, usable - max(sizes.max_pool, sizes.min_pool))


@dataclass(frozen=True, slots=True)
class ReclaimSettings:
    """``idle_ip_reclaim_*``: below ``max_pool`` too, once nothing has changed for ``after`` seconds."""

    after: float
    interval: float
    batch: int


def reclaim(usable: int, sizes: PoolSizes, settings: ReclaimSettings, *, quiet: float, due: bool) -> int:
    """Idle addresses to give back, reclaim included: at most ``batch`` more, never below ``min_pool``.

    ``quiet`` is the time in seconds since the last allocation or release.
    """
    base = excess(usable, sizes)
    if quiet < settings.after or not due:
        return base
    return base + min(settings.batch, max(0, usable - base - sizes.min_pool))
