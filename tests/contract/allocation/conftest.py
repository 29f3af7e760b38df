"""Each allocator with a node around it: where it hands out from, and how much of it there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from control.agent.allocation.fake_allocator import FakeAllocator
from control.ipam.allocator import Allocation, Allocator
from control.model.ids import EniId, Mac
from control.model.modes import NetworkMode, UplinkKind, shared_eni
from control.model.records import AddressRecord, AddressState, Changes, EniRecord, EniState
from tests.unit.control_agent.rig import PODS_VSWITCH, Rig


@dataclass
class Site:
    rig: Rig
    allocator: Allocator
    kind: UplinkKind
    mode: NetworkMode
    capacity: int
    """Requests of one interface each that the node can serve at once."""


def _shared() -> Site:
    rig = Rig()
    return Site(rig, rig.pool, UplinkKind.SHARED_ENI, NetworkMode.POLICY_ROUTE, 45)


def _fake() -> Site:
    rig = Rig()
    eni = EniId("eni-fake")
    addresses = [IPv4Address(f"10.0.1.{i}") for i in range(10, 13)]
    record = EniRecord(eni, Mac("00:16:3e:00:00:77"), PODS_VSWITCH, addresses[0], EniState.SERVING, 0.0)
    free = tuple(AddressRecord(a, eni, AddressState.FREE, 0.0) for a in addresses)
    rig.journal.record(Changes(enis=(record,), addresses=free))
    allocator = FakeAllocator(rig.journal, [Allocation(shared_eni(eni), a) for a in addresses])
    return Site(rig, allocator, UplinkKind.SHARED_ENI, NetworkMode.POLICY_ROUTE, len(addresses))


def _exclusive() -> Site:
    rig = Rig()
    return Site(rig, rig.exclusive, UplinkKind.OWN_ENI, NetworkMode.MACVLAN, 3)


SITES: dict[str, Callable[[], Site]] = {"shared": _shared, "exclusive": _exclusive, "fake": _fake}


@pytest.fixture(params=sorted(SITES))
def site(request: pytest.FixtureRequest) -> Site:
    return SITES[request.param]()
