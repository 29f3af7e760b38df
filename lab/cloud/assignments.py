"""Addresses of an ENI: asked for by number or by name, given and taken back.

All or nothing, as the real API: fewer than asked come only when a fault says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, TypeVar

from lab.cloud import errors, prefixes
from lab.cloud.instance_types import instance_type
from lab.cloud.model import IN_TRANSITION, Address, Eni, Instance, Network
from lab.cloud.prefixes import PrefixAsk
from lab.cloud.quotas import Growth, Quotas
from lab.cloud.resources import Resources

A = TypeVar("A", IPv4Address, IPv6Address)

MOST_IPV4_UNATTACHED = 50
"""Primary and secondary addresses of an ENI that is not attached; then the instance type decides."""
MOST_IPV6_UNATTACHED = 10


@dataclass(frozen=True, slots=True)
class Ask(Generic[A]):
    """Either ``addresses`` by name, or ``count`` of them that the cloud chooses."""

    count: int = 0
    addresses: tuple[A, ...] = ()

    def __post_init__(self) -> None:
        if self.count and self.addresses:
            raise ValueError("an Ask names addresses or counts them, not both")

    @property
    def total(self) -> int:
        return self.count + len(self.addresses)

    def at_most(self, limit: int | None) -> Ask[A]:
        """The same with a smaller ``count``, which is how a partial success comes about."""
        return self if limit is None else replace(self, count=min(self.count, limit))


def limits_of(instance: Instance | None) -> tuple[int, int]:
    """The most IPv4 and IPv6 addresses of one ENI on ``instance``, or of one that is not attached."""
    if instance is None:
        return MOST_IPV4_UNATTACHED, MOST_IPV6_UNATTACHED
    kind = instance_type(instance.instance_type)
    return kind.ipv4_per_eni, kind.ipv6_per_eni


def check_addresses(resources: Resources, vswitch_id: str, addresses: Sequence[Address]) -> None:
    """Each once, in the vSwitch and free; raises the code that says which is not."""
    seen: set[Address] = set()
    for address in addresses:
        pool = resources.pools[vswitch_id].of(address)
        if pool is None:
            raise errors.ipv6_not_on(vswitch_id)
        if address in seen:
            raise errors.address_repeated(str(address))
        if not pool.contains(address):
            raise errors.address_not_in_vswitch(str(address), vswitch_id)
        if not pool.is_free(address):
            raise errors.address_taken(str(address))
        seen.add(address)


class Assignments:
    """Address writes on ``resources``, at its ``now``. Every refusal is an ApiError and changes nothing."""

    def __init__(self, resources: Resources, quotas: Quotas) -> None:
        self._resources = resources
        self._quotas = quotas

    def assign_ipv4(self, eni_id: str, ask: Ask[IPv4Address]) -> tuple[IPv4Address, ...]:
        resources = self._resources
        eni = self._changeable(eni_id)
        limit = self._limits(eni)[0]
        if eni.slots(4) + ask.total > limit:
            raise errors.too_many_ipv4(limit)
        check_addresses(resources, eni.vswitch_id, ask.addresses)
        self._quotas.check_new_addresses(resources, eni.groups, Growth(ipv4=ask.total))
        chosen = resources.take_ipv4(eni.vswitch_id, ask.count)
        resources.pools[eni.vswitch_id].v4.take_exactly(ask.addresses)
        resources.count_available(eni.vswitch_id)
        given = (*ask.addresses, *chosen)
        resources.put_eni(replace(eni, ipv4=(*eni.ipv4, *given)))
        return given

    def assign_ipv6(self, eni_id: str, ask: Ask[IPv6Address]) -> tuple[IPv6Address, ...]:
        resources = self._resources
        eni = self._changeable(eni_id)
        limit = self._limits(eni)[1]
        if eni.slots(6) + ask.total > limit:
            raise errors.too_many_ipv6(limit)
        check_addresses(resources, eni.vswitch_id, ask.addresses)
        self._quotas.check_new_members(resources, eni.groups, Growth(ipv6=ask.total))
        chosen = resources.take_ipv6(eni.vswitch_id, ask.count)
        pool = resources.pools[eni.vswitch_id].v6
        if pool is not None:
            pool.take_exactly(ask.addresses)
        given = (*ask.addresses, *chosen)
        resources.put_eni(replace(eni, ipv6=(*eni.ipv6, *given)))
        return given

    def assign_prefixes(self, eni_id: str, ask: PrefixAsk) -> tuple[Network, ...]:
        resources = self._resources
        eni = self._changeable(eni_id)
        limit = self._limits(eni)[0 if ask.version == 4 else 1]
        if eni.slots(ask.version) + ask.total > limit:
            raise errors.too_many_ipv4(limit) if ask.version == 4 else errors.too_many_ipv6(limit)
        more = {f"ipv{ask.version}_prefixes": ask.total}
        self._quotas.check_new_addresses(resources, eni.groups, Growth(**more))
        given = prefixes.choose(resources, eni.vswitch_id, ask)
        prefixes.take(resources, eni.vswitch_id, given)
        resources.put_eni(replace(eni, prefixes=(*eni.prefixes, *given)))
        return given

    def unassign(self, eni_id: str, addresses: Sequence[Address], blocks: Sequence[Network] = ()) -> None:
        """All of ``addresses`` and ``blocks`` or none.

        The primary address counts as not assigned, as it leaves with its ENI, and so does an address of a
        prefix: a prefix leaves as a whole.
        """
        resources = self._resources
        eni = self._changeable(eni_id)
        for block in blocks:
            if block not in eni.prefixes:
                raise errors.address_not_assigned(str(block))
        for address in addresses:
            if address == eni.primary_ip or address not in eni.addresses:
                raise errors.address_not_assigned(str(address))
        leaving = frozenset(addresses)
        resources.put_eni(
            replace(
                eni,
                ipv4=tuple(a for a in eni.ipv4 if a not in leaving),
                ipv6=tuple(a for a in eni.ipv6 if a not in leaving),
                prefixes=tuple(prefix for prefix in eni.prefixes if prefix not in blocks),
            )
        )
        resources.give_back(eni.vswitch_id, tuple(leaving), tuple(set(blocks)))

    def _changeable(self, eni_id: str) -> Eni:
        eni = self._resources.eni(eni_id)
        if eni.status in IN_TRANSITION:
            raise errors.conflict(eni_id)
        return eni

    def _limits(self, eni: Eni) -> tuple[int, int]:
        return limits_of(self._resources.instance(eni.instance_id) if eni.instance_id else None)
