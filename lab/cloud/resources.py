"""Everything the cloud holds, with its history, and the addresses that are left.

Not thread-safe: ``lab.cloud.state`` holds the lock. Every write happens at ``now``, which ``settle`` sets.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from lab.cloud import errors
from lab.cloud.addresses import AddressPool
from lab.cloud.history import History
from lab.cloud.model import Address, Eni, Instance, Network
from lab.cloud.route_entry import RouteEntry
from lab.spec import Delays, LabSpec, RuleSpec, SecurityGroupSpec, VSwitchSpec

KEPT_SECONDS = 3600.0
"""How far back a view may look. A delay set to more than this shows the oldest state that is known."""


_SWEEP_SECONDS = 60.0

T = TypeVar("T")
AnyPool = AddressPool[IPv4Address] | AddressPool[IPv6Address]


def _history(where: dict[str, History[T]], key: str) -> History[T]:
    return where.setdefault(key, History())


class VSwitchPools:
    """The two address pools of one vSwitch; ``v6`` is None if IPv6 is not turned on for it."""

    def __init__(self, spec: VSwitchSpec) -> None:
        self.v4: AddressPool[IPv4Address] = AddressPool(spec.cidr)
        self.v6: AddressPool[IPv6Address] | None = None if spec.cidr_v6 is None else AddressPool(spec.cidr_v6)

    def of(self, address: Address | Network) -> AnyPool | None:
        return self.v4 if address.version == 4 else self.v6


class Resources:
    def __init__(self, spec: LabSpec, now: float) -> None:
        self.now = now
        self.born = now
        """When the VPC was made."""
        self.spec = spec
        self.delays: Delays = spec.delays
        self.enis: dict[str, History[Eni]] = {}
        self.instances: dict[str, History[Instance]] = {}
        self.groups: dict[str, History[SecurityGroupSpec]] = {}
        self.routes: dict[str, History[RouteEntry]] = {}
        """Custom entries of the VPC's table."""
        self.vswitches: dict[str, VSwitchSpec] = {v.vswitch_id: v for v in spec.vswitches}
        self.pools: dict[str, VSwitchPools] = {v.vswitch_id: VSwitchPools(v) for v in spec.vswitches}
        self.available: dict[str, History[int]] = {v.vswitch_id: History() for v in spec.vswitches}
        self._effects: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._swept = now
        self._rules = itertools.count(1)
        for group in spec.groups:
            _history(self.groups, group.group_id).put(float("-inf"), self.identified(group))
        for vswitch_id, pools in self.pools.items():
            self.available[vswitch_id].put(float("-inf"), pools.v4.available)

    # --- reading what is true now ---

    def eni(self, eni_id: str) -> Eni:
        """Raises InvalidEniId.NotFound."""
        history = self.enis.get(eni_id)
        found = history.at(self.now) if history is not None else None
        if found is None:
            raise errors.eni_not_found(eni_id)
        return found

    def all_enis(self) -> Iterator[Eni]:
        for history in self.enis.values():
            if (found := history.at(self.now)) is not None:
                yield found

    def all_groups(self) -> Iterator[SecurityGroupSpec]:
        for history in self.groups.values():
            if (found := history.at(self.now)) is not None:
                yield found

    def instance(self, instance_id: str) -> Instance:
        """Raises InvalidEcsId.NotFound, which the ENI actions answer."""
        history = self.instances.get(instance_id)
        found = history.at(self.now) if history is not None else None
        if found is None:
            raise errors.ecs_not_found(instance_id)
        return found

    def vswitch(self, vswitch_id: str) -> VSwitchSpec:
        """Raises InvalidVSwitchId.NotFound."""
        if vswitch_id not in self.vswitches:
            raise errors.vswitch_not_found(vswitch_id)
        return self.vswitches[vswitch_id]

    def group(self, group_id: str) -> SecurityGroupSpec:
        """Raises InvalidSecurityGroupId.NotFound."""
        history = self.groups.get(group_id)
        found = history.at(self.now) if history is not None else None
        if found is None:
            raise errors.group_not_found(group_id)
        return found

    # --- writing ---

    def settle(self, now: float) -> None:
        """Move to ``now`` and carry out what was due before: a deleted ENI's addresses become free."""
        while self._effects and self._effects[0][0] <= now:
            due, _, effect = heapq.heappop(self._effects)
            self.now = due
            effect()
        self.now = now
        if now > self._swept + _SWEEP_SECONDS:
            self._swept = now
            self._forget_the_gone()

    def later(self, when: float, effect: Callable[[], None]) -> None:
        heapq.heappush(self._effects, (when, self.serial(), effect))

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def put_eni(self, eni: Eni, *, since: float | None = None) -> None:
        history = _history(self.enis, eni.eni_id)
        history.put(self.now if since is None else since, eni)
        history.forget_before(self.now - KEPT_SECONDS)

    def bear_eni(self, eni: Eni) -> None:
        """Every view has it at once, as it has its instance."""
        _history(self.enis, eni.eni_id).rewrite(float("-inf"), eni)

    def end_eni(self, eni_id: str, *, since: float) -> None:
        self.enis[eni_id].put(since, None)

    def put_instance(self, instance: Instance) -> None:
        """Every view has it at once: an instance that runs was there before anybody could ask."""
        _history(self.instances, instance.instance_id).put(float("-inf"), instance)

    def put_route(self, entry: RouteEntry, *, since: float | None = None) -> None:
        history = _history(self.routes, entry.entry_id)
        history.put(self.now if since is None else since, entry)
        history.forget_before(self.now - KEPT_SECONDS)

    def end_route(self, entry_id: str, *, since: float) -> None:
        self.routes[entry_id].put(since, None)

    def amend_eni(self, eni_id: str, change: Callable[[Eni], Eni]) -> None:
        """``change`` it from now on, whatever it is about to become."""
        self.enis[eni_id].amend(self.now, change)

    def change_instance(self, instance: Instance) -> None:
        self.instances[instance.instance_id].put(self.now, instance)

    def identified(self, group: SecurityGroupSpec) -> SecurityGroupSpec:
        """``group`` with ids for rules that have none."""
        rules = (r if r.rule_id else self._identified(r) for r in group.rules)
        return replace(group, rules=tuple(rules))

    def _identified(self, rule: RuleSpec) -> RuleSpec:
        return replace(rule, rule_id=f"sgr-lab{next(self._rules):08d}", created=self.now)

    def end_group(self, group_id: str) -> None:
        self.groups[group_id].put(self.now, None)

    def put_group(self, group: SecurityGroupSpec) -> None:
        history = _history(self.groups, group.group_id)
        history.put(self.now, group)
        history.forget_before(self.now - KEPT_SECONDS)

    def count_available(self, vswitch_id: str) -> None:
        """Note how many IPv4 addresses are left, after any take or give back."""
        history = self.available[vswitch_id]
        history.put(self.now, self.pools[vswitch_id].v4.available)
        history.forget_before(self.now - KEPT_SECONDS)

    def take_ipv4(self, vswitch_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Raises InvalidVSwitchId.IpNotEnough, and takes none then."""
        pool = self.pools[vswitch_id].v4
        if count > pool.available:
            raise errors.vswitch_full(vswitch_id)
        taken = pool.take(count)
        self.count_available(vswitch_id)
        return tuple(taken)

    def take_ipv6(self, vswitch_id: str, count: int) -> tuple[IPv6Address, ...]:
        """Raises InvalidVSwitch.Ipv6NotTurnOn or InvalidVSwitchId.IpNotEnough."""
        if count == 0:
            return ()
        pool = self.pools[vswitch_id].v6
        if pool is None:
            raise errors.ipv6_not_on(vswitch_id)
        if count > pool.available:
            raise errors.vswitch_full(vswitch_id)
        return tuple(pool.take(count))

    def give_back(
        self, vswitch_id: str, addresses: tuple[Address, ...], prefixes: tuple[Network, ...] = ()
    ) -> None:
        for address in addresses:
            pool = self.pools[vswitch_id].of(address)
            if pool is not None:
                pool.give_back(address)
        for prefix in prefixes:
            pool = self.pools[vswitch_id].of(prefix)
            if pool is not None:
                pool.give_back_block(prefix)
        self.count_available(vswitch_id)

    def _forget_the_gone(self) -> None:
        """Drop ENIs, route entries and groups that no view can still see."""
        histories: tuple[dict[str, History[Any]], ...] = (self.enis, self.routes, self.groups)
        for kept in histories:
            for key in [k for k, h in kept.items() if h.forget_before(self.now - KEPT_SECONDS)]:
                del kept[key]
