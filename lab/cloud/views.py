"""What can be seen of the cloud, by whom, and how late.

A ``Snapshot`` is the resources as of one time. Writes look at now; Describe* answers, the metadata service,
the devices in the nodes and the fabric each look at now minus a delay of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

from lab.cloud.history import History
from lab.cloud.instance_types import instance_type
from lab.cloud.model import Eni, EniStatus, EniType, Instance
from lab.cloud.resources import Resources
from lab.cloud.route_entry import NextHopType, RouteEntry
from lab.fabric.view import Address, FabricView, Port, PortKind, Route, Subnet
from lab.spec import Delays, LabSpec, SecurityGroupSpec, gateway_of

Json = dict[str, object]


class Snapshot:
    """``resources`` as of ``time``. Cheap to make; valid while the state's lock is held."""

    __slots__ = ("_resources", "_time")

    def __init__(self, resources: Resources, time: float) -> None:
        self._resources = resources
        self._time = time

    def eni(self, eni_id: str) -> Eni | None:
        history = self._resources.enis.get(eni_id)
        return history.at(self._time) if history is not None else None

    def enis(self) -> Iterator[Eni]:
        """In order of creation."""
        for history in self._resources.enis.values():
            if (eni := history.at(self._time)) is not None:
                yield eni

    def attached_to(self, instance_id: str) -> list[Eni]:
        """ENIs whose device the instance has (or is about to have), the primary one first."""
        mine = [eni for eni in self.enis() if eni.attached and eni.instance_id == instance_id]
        return sorted(mine, key=lambda eni: eni.eni_type != EniType.PRIMARY)

    def instance(self, instance_id: str) -> Instance | None:
        history = self._resources.instances.get(instance_id)
        return history.at(self._time) if history is not None else None

    def instances(self) -> Iterator[Instance]:
        for history in self._resources.instances.values():
            if (instance := history.at(self._time)) is not None:
                yield instance

    def groups(self) -> Iterator[SecurityGroupSpec]:
        for history in self._resources.groups.values():
            if (group := history.at(self._time)) is not None:
                yield group

    def route_entries(self) -> Iterator[RouteEntry]:
        """The custom ones, in order of creation."""
        for history in self._resources.routes.values():
            if (entry := history.at(self._time)) is not None:
                yield entry

    def next_hop(self, entry: RouteEntry) -> str:
        """The ENI that ``entry`` leads to, whatever its state; "" if the instance is gone."""
        if entry.hop_type is NextHopType.NETWORK_INTERFACE:
            return entry.hop_id
        instance = self.instance(entry.hop_id)
        return instance.primary_eni if instance is not None else ""

    def available(self, vswitch_id: str) -> int:
        """Free IPv4 addresses."""
        return self._resources.available[vswitch_id].at(self._time) or 0


def fabric_view(spec: LabSpec, *, devices: Snapshot, addresses: Snapshot) -> FabricView:
    """Ports of the ENIs that ``devices`` has, with what ``addresses`` knows of them.

    An ENI that ``addresses`` does not know (yet) has a port without addresses: everything is dropped there.
    A member's tag is known from the end of its attachment, where a device is there from its beginning.
    """
    return FabricView(
        ports=tuple(
            port for instance in devices.instances() for port in _ports(spec, instance, devices, addresses)
        ),
        subnets=tuple(
            Subnet(cidr, gateway_of(cidr))
            for vswitch in spec.vswitches
            for cidr in (vswitch.cidr, vswitch.cidr_v6)
            if cidr is not None
        ),
        vpc=(spec.cidr, spec.cidr_v6),
        groups=tuple(addresses.groups()),
        mtu=spec.mtu,
        routes=tuple(
            Route(entry.destination, _leads_to(spec, entry, addresses))
            for entry in addresses.route_entries()
            if entry.forwards
        ),
    )


def _ports(spec: LabSpec, instance: Instance, seen: Snapshot, addresses: Snapshot) -> Iterator[Port]:
    enis = seen.attached_to(instance.instance_id)
    sessions = spec.sessions or instance_type(instance.instance_type).connections
    devices = {eni.eni_id: eni for eni in enis if not eni.trunk_id}
    for eni in enis:
        known = addresses.eni(eni.eni_id)
        if eni.eni_id in devices:
            yield replace(_port(eni, instance.name, known), sessions=sessions)
        elif eni.trunk_id in devices and eni.status == EniStatus.IN_USE:
            at = devices[eni.trunk_id] if spec.assumptions.members_use_trunk_mac else eni
            port = replace(_port(eni, instance.name, known), sessions=sessions)
            yield replace(port, mac=at.mac, trunk=eni.trunk_id, vlan=eni.vlan)


def _port(eni: Eni, node: str, known: Eni | None) -> Port:
    """Without ``known`` it is nobody's: its groups may be too new for ``addresses`` as well."""
    assigned: frozenset[Address] = frozenset(known.addresses) if known is not None else frozenset()
    return Port(
        port_id=eni.eni_id,
        kind=PortKind.ENI,
        owner=node,
        mac=eni.mac,
        forwards=not (known or eni).source_dest_check,
        addresses=assigned,
        prefixes=frozenset(known.prefixes if known is not None else ()),
        groups=frozenset(known.groups if known is not None else ()),
        device="eth0" if eni.eni_type == EniType.PRIMARY else "",
        primary=known.primary_ip if known is not None else None,
    )


def _leads_to(spec: LabSpec, entry: RouteEntry, seen: Snapshot) -> str:
    """The port that has what ``entry`` leads to; "" if it may not, or is not there."""
    hop = seen.next_hop(entry)
    eni = seen.eni(hop)
    passes = spec.assumptions.route_entries_pass_check or (eni is not None and not eni.source_dest_check)
    return hop if passes else ""


def next_change(resources: Resources, now: float) -> float | None:
    """The next time at which a view changes by itself, None if nothing is on its way."""
    delays = _view_delays(resources.delays)
    histories: Iterator[History[Any]] = chain(
        resources.enis.values(),
        resources.instances.values(),
        resources.groups.values(),
        resources.available.values(),
        resources.routes.values(),
    )
    upcoming = (
        change + delay
        for history in histories
        for delay in delays
        if (change := history.next_after(now - delay)) is not None
    )
    return min(upcoming, default=None)


def _view_delays(delays: Delays) -> set[float]:
    return {0.0, delays.describe, delays.metadata, delays.device, delays.fabric}


def describe_state(resources: Resources, snapshot: Snapshot) -> Json:
    """The write state as plain values, for people: nothing lags here."""
    return {
        "time": resources.now,
        "delays": asdict(resources.delays),
        "instances": [_instance_json(i, snapshot) for i in snapshot.instances()],
        "enis": [_eni_json(eni) for eni in snapshot.enis()],
        "vswitches": [
            {
                "id": v.vswitch_id,
                "zone": v.zone,
                "cidr": str(v.cidr),
                "cidr_v6": None if v.cidr_v6 is None else str(v.cidr_v6),
                "available": snapshot.available(v.vswitch_id),
            }
            for v in resources.vswitches.values()
        ],
        "groups": [asdict(group) for group in snapshot.groups()],
        "routes": [_route_json(entry) for entry in snapshot.route_entries()],
    }


def _instance_json(instance: Instance, snapshot: Snapshot) -> Json:
    primary = snapshot.eni(instance.primary_eni)
    return {
        "id": instance.instance_id,
        "name": instance.name,
        "type": instance.instance_type,
        "zone": instance.zone,
        "vswitch": instance.vswitch_id,
        "private_ip": None if primary is None else str(primary.primary_ip),
        "enis": [eni.eni_id for eni in snapshot.attached_to(instance.instance_id)],
    }


def _route_json(entry: RouteEntry) -> Json:
    return {
        "id": entry.entry_id,
        "destination": str(entry.destination),
        "next_hop": entry.hop_id,
        "status": str(entry.status),
    }


def _eni_json(eni: Eni) -> Json:
    return {
        "id": eni.eni_id,
        "mac": eni.mac,
        "type": str(eni.shown_type),
        "status": str(eni.status),
        "instance": eni.instance_id or None,
        "trunk": eni.trunk_id or None,
        "vlan": eni.vlan or None,
        "vswitch": eni.vswitch_id,
        "addresses": [str(address) for address in eni.addresses],
        "prefixes": [str(prefix) for prefix in eni.prefixes],
        "groups": list(eni.groups),
        "tags": dict(eni.tags),
        "description": eni.description,
    }
