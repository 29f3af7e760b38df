"""The life of an ENI: what each write checks, and what becomes true when.

::

    (create) Creating -> Available -> Attaching -> InUse -> Detaching -> Available -> Deleting -> (gone)

The times between are ``Delays.create``, ``.attach`` and ``.delete``; the later snapshot is written into the
ENI's history at once, with its future time, so a status changes by the clock alone.
What was asked for already succeeds again and changes nothing: Attach to the same place, Detach while
Detaching, Delete while Deleting. Any other write that asks for a wrong status gets
InvalidOperation.InvalidEniState; a change of attributes or addresses while the status is about to change
gets Operation.Conflict.
Which rule is documented and which inferred: docs/lab-rules.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from lab.cloud import errors, prefixes, trunks
from lab.cloud.assignments import Ask, check_addresses, limits_of
from lab.cloud.instance_types import instance_type
from lab.cloud.model import IN_TRANSITION, Address, Eni, EniStatus, EniType, Instance, Network, Tags
from lab.cloud.prefixes import PREFIX_SIZE, PrefixAsk
from lab.cloud.quotas import Growth, Quotas, growth_of
from lab.cloud.resources import Resources


@dataclass(frozen=True, slots=True)
class NewEni:
    """One CreateNetworkInterface. ``ipv4`` asks for the addresses beside the primary one."""

    vswitch_id: str
    groups: tuple[str, ...]
    primary_ip: IPv4Address | None
    ipv4: Ask[IPv4Address]
    ipv6: Ask[IPv6Address]
    eni_type: EniType = EniType.SECONDARY
    name: str = ""
    description: str = ""
    tags: Tags = ()
    delete_on_release: bool = True
    prefixes: tuple[PrefixAsk, ...] = ()
    """At most one of each family."""
    source_dest_check: bool | None = None
    """None: as the lab's assumptions say."""
    resource_group_id: str = ""
    queue_number: int | None = None

    def slots(self, version: int) -> int:
        """What it asks for of an ENI's limit, the primary address included."""
        addresses = 1 + self.ipv4.total if version == 4 else self.ipv6.total
        return addresses + sum(ask.total for ask in self.prefixes if ask.version == version)

    @property
    def growth(self) -> Growth:
        count = {ask.version: ask.total for ask in self.prefixes}
        return Growth(1 + self.ipv4.total, self.ipv6.total, count.get(4, 0), count.get(6, 0), enis=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one ENI is attached. ``trunk_id`` "" is a device of its own."""

    instance_id: str
    trunk_id: str = ""
    network_card: int | None = None
    """None: the call does not say."""


@dataclass(frozen=True, slots=True)
class EniChange:
    """One ModifyNetworkInterfaceAttribute: None leaves as it is."""

    name: str | None = None
    description: str | None = None
    groups: tuple[str, ...] | None = None
    delete_on_release: bool | None = None
    source_dest_check: bool | None = None
    queue_number: int | None = None


class Interfaces:
    """ENI writes on ``resources``, at its ``now``. Every refusal is an ApiError and changes nothing."""

    def __init__(self, resources: Resources, quotas: Quotas) -> None:
        self._resources = resources
        self._quotas = quotas

    def create(self, new: NewEni) -> Eni:
        resources = self._resources
        vswitch = resources.vswitch(new.vswitch_id)
        self._quotas.check_groups(resources, new.groups)
        most_ipv4, most_ipv6 = limits_of(None)
        if new.slots(4) > most_ipv4:
            raise errors.too_many_ipv4(most_ipv4)
        if new.slots(6) > most_ipv6:
            raise errors.too_many_ipv6(most_ipv6)
        explicit = (*(() if new.primary_ip is None else (new.primary_ip,)), *new.ipv4.addresses)
        check_addresses(resources, new.vswitch_id, (*explicit, *new.ipv6.addresses))
        self._quotas.check_new_eni(resources)
        self._quotas.check_new_addresses(resources, new.groups, new.growth)
        blocks = self._choose_prefixes(new, explicit)
        ipv4, ipv6 = self._take(new, blocks)
        serial = resources.serial()
        eni = Eni(
            eni_id=f"eni-lab{serial:08d}",
            mac=_mac(serial),
            eni_type=new.eni_type,
            vswitch_id=new.vswitch_id,
            zone=vswitch.zone,
            status=EniStatus.CREATING,
            primary_ip=ipv4[0],
            ipv4=ipv4,
            ipv6=ipv6,
            groups=new.groups,
            created=resources.now,
            name=new.name,
            description=new.description,
            tags=new.tags,
            delete_on_release=new.delete_on_release,
            prefixes=blocks,
            source_dest_check=self._checks(new.source_dest_check),
            resource_group_id=new.resource_group_id,
            queue_number=new.queue_number,
        )
        self._become(eni, EniStatus.AVAILABLE, after=resources.delays.create)
        return resources.eni(eni.eni_id)

    def create_primary(self, instance: Instance) -> Eni:
        """The ENI an instance is born with: first free address, seen by every view at once."""
        resources = self._resources
        kind = instance_type(instance.instance_type)
        with_v6 = resources.pools[instance.vswitch_id].v6 is not None and kind.ipv6_per_eni > 0
        ipv4 = resources.take_ipv4(instance.vswitch_id, 1)
        eni = Eni(
            eni_id=instance.primary_eni,
            mac=_mac(resources.serial()),
            eni_type=EniType.PRIMARY,
            vswitch_id=instance.vswitch_id,
            zone=instance.zone,
            status=EniStatus.IN_USE,
            primary_ip=ipv4[0],
            ipv4=ipv4,
            ipv6=resources.take_ipv6(instance.vswitch_id, 1 if with_v6 else 0),
            groups=instance.groups,
            created=resources.now,
            instance_id=instance.instance_id,
            source_dest_check=self._checks(None),
        )
        resources.bear_eni(eni)
        return eni

    def attach(self, eni_id: str, place: Place) -> None:
        """With a trunk as a member of it. Nothing happens if the ENI is there, or on its way there."""
        resources = self._resources
        eni = resources.eni(eni_id)
        instance = resources.instance(place.instance_id)
        kind = instance_type(instance.instance_type)
        if eni.attached and (eni.instance_id, eni.trunk_id) == (place.instance_id, place.trunk_id):
            return
        if eni.status != EniStatus.AVAILABLE:
            raise errors.wrong_state(eni, "Available")
        if place.network_card is not None and place.network_card >= kind.network_cards:
            raise errors.invalid_parameter(
                "NetworkCardIndex", f"{kind.name} has {kind.network_cards} network cards to choose from"
            )
        if place.trunk_id:
            trunks.check_trunk(resources.eni(place.trunk_id), place.instance_id, eni)
        if eni.zone != instance.zone:
            raise errors.zone_mismatch(eni, instance.zone)
        if eni.eni_type == EniType.TRUNK and not kind.trunk:
            raise errors.wrong_type(eni, f"{kind.name} does not support trunk ENIs")
        trunks.check_room(kind, self.of_instance(place.instance_id), member=bool(place.trunk_id))
        if eni.slots(4) > kind.ipv4_per_eni:
            raise errors.too_many_ipv4(kind.ipv4_per_eni)
        if eni.slots(6) > kind.ipv6_per_eni:
            raise errors.too_many_ipv6(kind.ipv6_per_eni)
        bound = replace(
            eni,
            status=EniStatus.ATTACHING,
            instance_id=place.instance_id,
            trunk_id=place.trunk_id,
            vlan=trunks.free_vlan(self.members_of(place.trunk_id)) if place.trunk_id else 0,
            network_card=place.network_card,
        )
        self._become(bound, EniStatus.IN_USE, after=resources.delays.attach)

    def detach(self, eni_id: str, place: Place) -> None:
        """From where it is, which a member's call names with the trunk."""
        resources = self._resources
        eni = resources.eni(eni_id)
        resources.instance(place.instance_id)
        if eni.eni_type == EniType.PRIMARY:
            raise errors.primary_not_detachable(eni_id)
        if eni.status == EniStatus.AVAILABLE and resources.spec.assumptions.detach_available_succeeds:
            return
        if eni.status not in (EniStatus.IN_USE, EniStatus.DETACHING):
            raise errors.wrong_state(eni, "InUse")
        if eni.instance_id != place.instance_id:
            raise errors.invalid_parameter("InstanceId", f"{eni_id} is attached to {eni.instance_id}")
        if eni.trunk_id != place.trunk_id:
            raise errors.invalid_parameter(
                "TrunkNetworkInstanceId", f"{eni_id} is attached to {eni.trunk_id or 'no trunk ENI'}"
            )
        if eni.status == EniStatus.DETACHING:
            return
        if members := self.members_of(eni_id):
            raise errors.has_members(eni, [member.eni_id for member in members])
        leaving = replace(eni, status=EniStatus.DETACHING)
        self._become(leaving, EniStatus.AVAILABLE, after=resources.delays.attach)

    def delete(self, eni_id: str) -> None:
        resources = self._resources
        eni = resources.eni(eni_id)
        if eni.eni_type == EniType.PRIMARY:
            raise errors.wrong_type(eni, "a primary ENI is released with its instance")
        if eni.status == EniStatus.DELETING:
            return
        if eni.status != EniStatus.AVAILABLE:
            raise errors.wrong_state(eni, "Available")
        end = resources.now + resources.delays.delete
        resources.put_eni(replace(eni, status=EniStatus.DELETING))
        resources.end_eni(eni_id, since=end)
        resources.later(end, lambda: resources.give_back(eni.vswitch_id, eni.addresses, eni.prefixes))
        resources.settle(resources.now)

    def modify(self, eni_id: str, change: EniChange) -> None:
        resources = self._resources
        eni = resources.eni(eni_id)
        self._quotas.check_groups(resources, change.groups or ())
        if eni.status in IN_TRANSITION:
            raise errors.conflict(eni_id)
        if change.queue_number is not None and eni.status != EniStatus.AVAILABLE:
            raise errors.wrong_state(eni, "Available")
        joined = [g for g in change.groups or () if g not in eni.groups]
        self._quotas.check_new_members(resources, joined, growth_of(eni))
        resources.put_eni(
            replace(
                eni,
                name=eni.name if change.name is None else change.name,
                description=eni.description if change.description is None else change.description,
                groups=eni.groups if change.groups is None else change.groups,
                delete_on_release=(
                    eni.delete_on_release if change.delete_on_release is None else change.delete_on_release
                ),
                source_dest_check=(
                    eni.source_dest_check if change.source_dest_check is None else change.source_dest_check
                ),
                queue_number=eni.queue_number if change.queue_number is None else change.queue_number,
            )
        )

    def release_with_instance(self, instance_id: str) -> None:
        """The instance is gone: its ENIs go with it, or stay as Available. Every view knows at once."""
        resources = self._resources
        for eni in self.of_instance(instance_id):
            history = resources.enis[eni.eni_id]
            if eni.eni_type == EniType.PRIMARY or eni.delete_on_release:
                history.rewrite(resources.now, None)
                resources.give_back(eni.vswitch_id, eni.addresses, eni.prefixes)
            else:
                history.rewrite(resources.now, _unbound(eni, EniStatus.AVAILABLE))

    def of_instance(self, instance_id: str) -> Sequence[Eni]:
        """All that count against the instance's limit, the primary one and those on their way included."""
        return [eni for eni in self._resources.all_enis() if eni.instance_id == instance_id]

    def members_of(self, trunk_id: str) -> list[Eni]:
        """None for an ENI that is no trunk."""
        return trunks.members_of(trunk_id, self._resources.all_enis()) if trunk_id else []

    def _checks(self, asked: bool | None) -> bool:
        return self._resources.spec.assumptions.new_enis_check_addresses if asked is None else asked

    def _choose_prefixes(self, new: NewEni, explicit: Sequence[IPv4Address]) -> tuple[Network, ...]:
        """Both families'; nothing is taken."""
        beside: tuple[Address, ...] = (*explicit, *new.ipv6.addresses)
        chosen = [
            prefixes.choose(self._resources, new.vswitch_id, ask, beside=beside) for ask in new.prefixes
        ]
        return tuple(block for blocks in chosen for block in blocks)

    def _take(
        self, new: NewEni, blocks: Sequence[Network]
    ) -> tuple[tuple[IPv4Address, ...], tuple[IPv6Address, ...]]:
        """All of the addresses of ``new`` and ``blocks`` or none; the explicit ones are known to be free."""
        resources = self._resources
        room = PREFIX_SIZE * sum(block.version == 4 for block in blocks)
        pools = resources.pools[new.vswitch_id]
        explicit = (*(() if new.primary_ip is None else (new.primary_ip,)), *new.ipv4.addresses)
        if pools.v4.available < 1 + new.ipv4.total + room:
            raise errors.vswitch_full(new.vswitch_id)
        if new.ipv6.total and pools.v6 is None:
            raise errors.ipv6_not_on(new.vswitch_id)
        if pools.v6 is not None and pools.v6.available < new.ipv6.total:
            raise errors.vswitch_full(new.vswitch_id)
        prefixes.take(resources, new.vswitch_id, blocks)
        pools.v4.take_exactly(explicit)
        primary = (new.primary_ip,) if new.primary_ip is not None else resources.take_ipv4(new.vswitch_id, 1)
        others = (*new.ipv4.addresses, *resources.take_ipv4(new.vswitch_id, new.ipv4.count))
        if pools.v6 is not None:
            pools.v6.take_exactly(new.ipv6.addresses)
        ipv6 = (*new.ipv6.addresses, *resources.take_ipv6(new.vswitch_id, new.ipv6.count))
        return (*primary, *others), ipv6

    def _become(self, eni: Eni, status: EniStatus, *, after: float) -> None:
        """``eni`` as it is now, and with ``status`` from ``after`` seconds on."""
        now = self._resources.now
        self._resources.put_eni(eni)
        later = replace(eni, status=status) if status == EniStatus.IN_USE else _unbound(eni, status)
        self._resources.put_eni(later, since=now + after)


def _unbound(eni: Eni, status: EniStatus) -> Eni:
    return replace(eni, status=status, instance_id="", trunk_id="", vlan=0, network_card=None)


def _mac(serial: int) -> str:
    """00:16:3e is the prefix that ECS uses; the rest counts."""
    return "00:16:3e:" + ":".join(f"{byte:02x}" for byte in serial.to_bytes(3, "big"))
