"""Assign and unassign of private IPv4 and IPv6 addresses, through the ECS SDK."""

from __future__ import annotations

from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs

from lab.cloud.faults import Fault
from tests.unit.lab_cloud.bench import REGION, ZONE_B_VSWITCH, Bench, Refusal, refusal


def _assign_v6(cloud: Bench, eni_id: str, count: int | None = None, **fields: Any) -> list[str]:
    request = ecs.AssignIpv6AddressesRequest(
        region_id=REGION, network_interface_id=eni_id, ipv_6address_count=count, **fields
    )
    return list(cloud.ecs().assign_ipv_6addresses(request).body.ipv_6sets.ipv_6address)


def _unassign_v6(cloud: Bench, eni_id: str, *addresses: str) -> None:
    cloud.ecs().unassign_ipv_6addresses(
        ecs.UnassignIpv6AddressesRequest(
            region_id=REGION, network_interface_id=eni_id, ipv_6address=list(addresses)
        )
    )


def _v4(cloud: Bench, eni_id: str) -> list[str]:
    (eni,) = cloud.describe(network_interface_id=[eni_id])
    return [entry.private_ip_address for entry in eni.private_ip_sets.private_ip_set]


def test_by_count_and_by_name(cloud: Bench) -> None:
    made = cloud.create()
    eni = made.network_interface_id
    given = cloud.assign(eni, 3)
    assert len(set(given)) == 3
    assert cloud.assign(eni, private_ip_address=["10.0.25.1", "10.0.25.2"]) == ["10.0.25.1", "10.0.25.2"]
    assert _v4(cloud, eni) == [made.private_ip_address, *given, "10.0.25.1", "10.0.25.2"]
    cloud.unassign(eni, given[0], "10.0.25.2")
    assert _v4(cloud, eni) == [made.private_ip_address, *given[1:], "10.0.25.1"]


def test_ipv6(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    given = _assign_v6(cloud, eni, 2)
    assert _assign_v6(cloud, eni, ipv_6address=["2001:db8:10:1::abcd"]) == ["2001:db8:10:1::abcd"]
    (seen,) = cloud.describe(network_interface_id=[eni])
    expected = [*given, "2001:db8:10:1::abcd"]
    assert [entry.ipv_6address for entry in seen.ipv_6sets.ipv_6set] == expected
    _unassign_v6(cloud, eni, *given)
    assert refusal(lambda: _unassign_v6(cloud, eni, *given)) == Refusal("InvalidIp.IpUnassigned", 403)


def test_ipv6_refusals(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    without = cloud.create(vswitch=ZONE_B_VSWITCH).network_interface_id
    assert refusal(lambda: _assign_v6(cloud, without, 1)) == Refusal("InvalidVSwitch.Ipv6NotTurnOn", 403)
    assert refusal(lambda: _assign_v6(cloud, eni)) == Refusal("MissingParameter", 400)
    assert refusal(lambda: _assign_v6(cloud, eni, ipv_6address=["::1"])) == Refusal(
        "InvalidVSwitchId.IpInvalid", 403
    )
    cloud.attach(eni, "i-small")
    _assign_v6(cloud, eni, 1)
    assert refusal(lambda: _assign_v6(cloud, eni, 1)) == Refusal("InvalidOperation.Ipv6CountExceeded", 403)


def test_the_instance_type_bounds_an_attached_eni(cloud: Bench) -> None:
    """ecs.g6.large: six per ENI, the primary address included. Nothing is given of a call that is refused."""
    eni = cloud.create().network_interface_id
    cloud.attach(eni, "i-small")
    cloud.assign(eni, 4)
    before = _v4(cloud, eni)
    assert refusal(lambda: cloud.assign(eni, 2)) == Refusal("InvalidOperation.Ipv4CountExceeded", 403)
    assert _v4(cloud, eni) == before
    cloud.assign(eni, 1)


def test_an_unattached_eni_has_fifty(cloud: Bench) -> None:
    eni = cloud.create(secondary_private_ip_address_count=45).network_interface_id
    assert refusal(lambda: cloud.assign(eni, 5)) == Refusal("InvalidOperation.Ipv4CountExceeded", 403)
    cloud.assign(eni, 4)


def test_a_primary_eni_takes_addresses_too(cloud: Bench) -> None:
    assert len(cloud.assign("eni-node1", 2)) == 2


def test_a_vswitch_that_runs_out(cloud: Bench) -> None:
    """All or nothing, and what is given back can be given again."""
    eni = cloud.create().network_interface_id
    cloud.state.occupy("vsw-pods", leave=2)
    assert refusal(lambda: cloud.assign(eni, 3)) == Refusal("InvalidVSwitchId.IpNotEnough", 403)
    given = cloud.assign(eni, 2)
    assert refusal(lambda: cloud.assign(eni, 1)) == Refusal("InvalidVSwitchId.IpNotEnough", 403)
    cloud.unassign(eni, given[1])
    assert cloud.assign(eni, 1) == [given[1]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"network_interface_id": "eni-none", "count": 1}, Refusal("InvalidEniId.NotFound", 404)),
        ({}, Refusal("MissingParameter", 400)),
        ({"count": 50}, Refusal("InvalidParameter", 400)),
        ({"count": 1, "private_ip_address": ["10.0.25.1"]}, Refusal("InvalidParameter", 400)),
        ({"private_ip_address": ["10.0.0.1"]}, Refusal("InvalidVSwitchId.IpInvalid", 403)),
        ({"private_ip_address": ["10.0.16.1"]}, Refusal("InvalidIp.IpAssigned", 403)),
        ({"private_ip_address": ["10.0.25.1", "10.0.25.1"]}, Refusal("InvalidIp.IpRepeated", 403)),
    ],
)
def test_assign_refuses(cloud: Bench, fields: dict[str, Any], expected: Refusal) -> None:
    made = cloud.create()
    eni = made.network_interface_id
    assert made.private_ip_address == "10.0.16.1"
    assert refusal(lambda: cloud.assign(eni, **fields)) == expected
    assert _v4(cloud, eni) == ["10.0.16.1"]


def test_unassign_refuses_and_does_nothing(cloud: Bench) -> None:
    made = cloud.create()
    eni = made.network_interface_id
    (given,) = cloud.assign(eni, 1)
    assert refusal(lambda: cloud.unassign("eni-none", given)) == Refusal("InvalidEniId.NotFound", 404)
    assert refusal(lambda: cloud.unassign(eni)) == Refusal("MissingParameter", 400)
    unassigned = Refusal("InvalidIp.IpUnassigned", 403)
    assert refusal(lambda: cloud.unassign(eni, given, "10.0.25.9")) == unassigned
    assert refusal(lambda: cloud.unassign(eni, made.private_ip_address)) == unassigned
    assert _v4(cloud, eni) == [made.private_ip_address, given]


def test_partial_success_is_a_fault_of_its_own(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    cloud.state.faults.add(Fault("AssignPrivateIpAddresses", partial=2, count=1))
    assert len(cloud.assign(eni, 5)) == 2
    assert len(cloud.assign(eni, 5)) == 5
    assert len(_v4(cloud, eni)) == 8


def test_freed_addresses_are_the_last_to_be_given_again(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    given = cloud.assign(eni, 5)
    cloud.unassign(eni, *given)
    assert set(cloud.assign(eni, 10)).isdisjoint(given)
