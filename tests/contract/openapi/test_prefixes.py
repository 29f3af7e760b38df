"""Prefixes of an ENI through the ECS SDK: created with, assigned, unassigned, seen, and refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_vpc20160428 import models as vpc

from lab.cloud.faults import Fault
from tests.unit.lab_cloud.bench import REGION, ZONE_B_VSWITCH, Bench, Refusal, refusal

FULL = Refusal("InvalidVSwitchId.IpNotEnough", 403)
INVALID = Refusal("InvalidParameter", 400)


def assign_v4(cloud: Bench, eni_id: str, count: int | None = None, **fields: Any) -> list[str]:
    fields = {"ipv_4prefix_count": count, **fields}
    request = ecs.AssignPrivateIpAddressesRequest(region_id=REGION, network_interface_id=eni_id, **fields)
    body = cloud.ecs().assign_private_ip_addresses(request).body
    assert body.assigned_private_ip_addresses_set.network_interface_id == eni_id
    assert body.assigned_private_ip_addresses_set.private_ip_set.private_ip_address == []
    return list(body.assigned_private_ip_addresses_set.ipv_4prefix_set.ipv_4prefixes)


def assign_v6(cloud: Bench, eni_id: str, count: int | None = None, **fields: Any) -> list[str]:
    request = ecs.AssignIpv6AddressesRequest(
        region_id=REGION, network_interface_id=eni_id, ipv_6prefix_count=count, **fields
    )
    return list(cloud.ecs().assign_ipv_6addresses(request).body.ipv_6prefix_sets.ipv_6prefix)


def unassign_v4(cloud: Bench, eni_id: str, *prefixes: str, addresses: tuple[str, ...] = ()) -> None:
    cloud.ecs().unassign_private_ip_addresses(
        ecs.UnassignPrivateIpAddressesRequest(
            region_id=REGION,
            network_interface_id=eni_id,
            ipv_4prefix=list(prefixes),
            private_ip_address=list(addresses),
        )
    )


def unassign_v6(cloud: Bench, eni_id: str, *prefixes: str) -> None:
    cloud.ecs().unassign_ipv_6addresses(
        ecs.UnassignIpv6AddressesRequest(
            region_id=REGION, network_interface_id=eni_id, ipv_6prefix=list(prefixes)
        )
    )


def described(cloud: Bench, eni_id: str) -> tuple[list[str], list[str]]:
    """The prefixes of both families that DescribeNetworkInterfaces shows."""
    (eni,) = cloud.describe(network_interface_id=[eni_id])
    return (
        [entry.ipv_4prefix for entry in eni.ipv_4prefix_sets.ipv_4prefix_set],
        [entry.ipv_6prefix for entry in eni.ipv_6prefix_sets.ipv_6prefix_set],
    )


def available(cloud: Bench, vswitch: str = "vsw-pods") -> int:
    request = vpc.DescribeVSwitchesRequest(region_id=REGION, v_switch_id=vswitch)
    body = cloud.vpc().describe_vswitches(request).body
    return int(body.v_switches.v_switch[0].available_ip_address_count)


def test_created_with_prefixes_of_both_families(cloud: Bench) -> None:
    made = cloud.create(ipv_4prefix_count=2, ipv_6prefix_count=1)
    v4 = [entry.ipv_4prefix for entry in made.ipv_4prefix_sets.ipv_4prefix_set]
    v6 = [entry.ipv_6prefix for entry in made.ipv_6prefix_sets.ipv_6prefix_set]
    assert [ip_network(p).prefixlen for p in (*v4, *v6)] == [28, 28, 80]
    assert described(cloud, made.network_interface_id) == (v4, v6)
    assert len(made.private_ip_sets.private_ip_set) == 1
    assert not any(IPv4Address(made.private_ip_address) in IPv4Network(p) for p in v4)


def test_created_with_named_prefixes(cloud: Bench) -> None:
    named: dict[str, Any] = {"ipv_4prefix": ["10.0.20.16/28"], "ipv_6prefix": ["2001:db8:10:1:77::/80"]}
    eni = cloud.create(**named).network_interface_id
    assert described(cloud, eni) == (named["ipv_4prefix"], named["ipv_6prefix"])
    taken = Refusal("InvalidIp.IpAssigned", 403)
    assert refusal(lambda: cloud.create(ipv_4prefix=["10.0.20.16/28"])) == taken
    assert refusal(lambda: cloud.create(private_ip_address=["10.0.20.20"])) == taken
    inside: dict[str, Any] = {"primary_ip_address": "10.0.21.17", "ipv_4prefix": ["10.0.21.16/28"]}
    assert refusal(lambda: cloud.create(**inside)) == taken


def test_assigned_and_unassigned(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    before = available(cloud)
    given = assign_v4(cloud, eni, 2)
    assert assign_v4(cloud, eni, ipv_4prefix=["10.0.24.32/28"]) == ["10.0.24.32/28"]
    v6 = assign_v6(cloud, eni, 2)
    assert described(cloud, eni) == ([*given, "10.0.24.32/28"], v6)
    assert available(cloud) == before - 3 * 16
    unassign_v4(cloud, eni, given[0], "10.0.24.32/28")
    unassign_v6(cloud, eni, v6[1])
    assert described(cloud, eni) == ([given[1]], v6[:1])
    assert available(cloud) == before - 16
    unknown = Refusal("InvalidIp.IpUnassigned", 403)
    assert refusal(lambda: unassign_v4(cloud, eni, given[0])) == unknown
    assert refusal(lambda: unassign_v6(cloud, eni, v6[1])) == unknown


def test_an_unassign_is_all_or_nothing(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    (prefix,) = assign_v4(cloud, eni, 1)
    (address,) = cloud.assign(eni, 1)
    unknown = Refusal("InvalidIp.IpUnassigned", 403)
    assert refusal(lambda: unassign_v4(cloud, eni, prefix, "10.0.24.0/28", addresses=(address,))) == unknown
    inside = str(IPv4Network(prefix)[3])
    assert refusal(lambda: unassign_v4(cloud, eni, addresses=(inside,))) == unknown
    assert described(cloud, eni)[0] == [prefix]
    unassign_v4(cloud, eni, prefix, addresses=(address,))
    assert described(cloud, eni)[0] == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ipv_4prefix_count": 1, "ipv_4prefix": ["10.0.24.32/28"]}, INVALID),
        ({"ipv_4prefix_count": 1, "secondary_private_ip_address_count": 1}, INVALID),
        ({"ipv_4prefix": ["10.0.24.32/28"], "private_ip_address": ["10.0.24.9"]}, INVALID),
        ({"ipv_4prefix_count": 11}, INVALID),
        ({"ipv_4prefix_count": 0}, INVALID),
        ({"ipv_4prefix": ["10.0.24.32/27"]}, INVALID),
        ({"ipv_4prefix": ["10.0.24.33/28"]}, INVALID),
        ({"ipv_4prefix": ["10.0.24.32"]}, INVALID),
        ({"ipv_4prefix": ["2001:db8:10:1:77::/80"]}, INVALID),
        ({"ipv_4prefix": [f"10.0.24.{n * 16}/28" for n in range(11)]}, INVALID),
        ({"ipv_4prefix": ["10.0.24.32/28", "10.0.24.32/28"]}, Refusal("InvalidIp.IpRepeated", 403)),
        ({"ipv_4prefix": ["10.0.64.32/28"]}, Refusal("InvalidVSwitchId.IpInvalid", 403)),
        ({"ipv_4prefix": ["10.0.16.0/28"]}, Refusal("InvalidVSwitchId.IpInvalid", 403)),
        ({"ipv_4prefix": ["10.0.31.240/28"]}, Refusal("InvalidVSwitchId.IpInvalid", 403)),
        ({}, Refusal("MissingParameter", 400)),
    ],
)
def test_assign_refuses(cloud: Bench, fields: dict[str, Any], expected: Refusal) -> None:
    """The last of the vSwitch's own: 10.0.16.0/28 and 10.0.31.240/28 hold addresses that the VPC keeps."""
    eni = cloud.create().network_interface_id
    before = available(cloud)
    assert refusal(lambda: assign_v4(cloud, eni, **fields)) == expected
    assert described(cloud, eni) == ([], [])
    assert available(cloud) == before


def test_ipv6_refusals(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    without = cloud.create(vswitch=ZONE_B_VSWITCH).network_interface_id
    assert refusal(lambda: assign_v6(cloud, without, 1)) == Refusal("InvalidVSwitch.Ipv6NotTurnOn", 403)
    assert refusal(lambda: assign_v6(cloud, eni, 1, ipv_6address_count=1)) == INVALID
    assert refusal(lambda: assign_v6(cloud, eni, ipv_6prefix=["2001:db8:10:1:5::/96"])) == INVALID
    both: dict[str, Any] = {"ipv_6prefix_count": 1, "ipv_6address_count": 1}
    assert refusal(lambda: cloud.create(**both)) == INVALID


def test_a_prefix_counts_as_one_address_of_the_instance_type(cloud: Bench) -> None:
    """Documented for a type of six per ENI: five prefixes beside the primary address, and no sixth slot."""
    eni = cloud.create(ipv_4prefix_count=3).network_interface_id
    cloud.attach(eni, "i-small")
    cloud.assign(eni, 1)
    assign_v4(cloud, eni, 1)
    too_many = Refusal("InvalidOperation.Ipv4CountExceeded", 403)
    assert refusal(lambda: assign_v4(cloud, eni, 1)) == too_many
    assert refusal(lambda: cloud.assign(eni, 1)) == too_many


def test_an_eni_with_too_many_prefixes_is_not_attached(cloud: Bench) -> None:
    eni = cloud.create(ipv_4prefix_count=6).network_interface_id
    too_many = Refusal("InvalidOperation.Ipv4CountExceeded", 403)
    assert refusal(lambda: cloud.attach(eni, "i-small")) == too_many
    eni = cloud.create(ipv_6prefix_count=2).network_interface_id
    too_many = Refusal("InvalidOperation.Ipv6CountExceeded", 403)
    assert refusal(lambda: cloud.attach(eni, "i-small")) == too_many


def test_a_fragmented_vswitch_has_addresses_and_no_block(cloud: Bench) -> None:
    """One address in use in each /28 is enough. It comes back with the address."""
    eni = cloud.create(vswitch=ZONE_B_VSWITCH).network_interface_id
    owner, spoilers = eni, [f"10.0.{32 + n // 16}.{n % 16 * 16 + 5}" for n in range(256)]
    for start in range(0, len(spoilers), 40):
        owner = cloud.create(vswitch=ZONE_B_VSWITCH).network_interface_id
        cloud.assign(owner, private_ip_address=spoilers[start : start + 40])
    assert available(cloud, ZONE_B_VSWITCH) > 3000
    assert refusal(lambda: assign_v4(cloud, eni, 1)) == FULL
    assert refusal(lambda: cloud.create(vswitch=ZONE_B_VSWITCH, ipv_4prefix_count=1)) == FULL
    cloud.unassign(owner, spoilers[-2])
    assert refusal(lambda: assign_v4(cloud, eni, 2)) == FULL
    assert assign_v4(cloud, eni, 1) == [str(IPv4Network(f"{spoilers[-2]}/28", strict=False))]


def test_an_operator_fragments_a_vswitch_and_gives_it_back(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    before = available(cloud)
    taken = cloud.state.fragment("vsw-pods")
    assert available(cloud) == before - taken > 3000
    assert refusal(lambda: assign_v4(cloud, eni, 1)) == FULL
    cloud.state.release_occupied("vsw-pods")
    assert available(cloud) == before
    assert len(assign_v4(cloud, eni, 10)) == 10


def test_prefixes_go_back_with_their_eni(cloud: Bench) -> None:
    before = available(cloud)
    eni = cloud.create(ipv_4prefix_count=4, ipv_6prefix_count=2).network_interface_id
    assert available(cloud) == before - 65
    cloud.delete(eni)
    assert available(cloud) == before


def test_groups_and_vpc_count_prefixes(cloud: Bench) -> None:
    eni = cloud.create(security_group_id="sg-other").network_interface_id
    cloud.state.quotas.addresses_per_group = 3
    full = Refusal("SecurityGroupInstanceLimitExceed", 403)
    assert refusal(lambda: assign_v4(cloud, eni, 3)) == full
    assign_v4(cloud, eni, 1)
    assign_v6(cloud, eni, 1)
    assert refusal(lambda: assign_v6(cloud, eni, 1)) == full
    cloud.state.quotas.addresses_per_group = 100
    cloud.state.quotas.addresses_per_vpc = 35
    assert refusal(lambda: assign_v4(cloud, eni, 1)) == Refusal("QuotaExceeded.PrivateIpAddress", 400)


def test_a_partial_success(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    cloud.state.faults.add(Fault(action="AssignPrivateIpAddresses", partial=1))
    assert len(assign_v4(cloud, eni, 3)) == 1


def test_a_token_gives_the_same_prefixes(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    given = assign_v4(cloud, eni, 2, client_token="prefix-1")
    assert assign_v4(cloud, eni, 2, client_token="prefix-1") == given
    assert described(cloud, eni)[0] == given


def test_metadata_shows_them_when_its_view_does(cloud: Bench) -> None:
    cloud.state.set_delays(metadata=5.0)
    made = cloud.create(ipv_4prefix=["10.0.24.32/28"], ipv_6prefix=["2001:db8:10:1:77::/80"])
    cloud.attach(made.network_interface_id)
    cloud.clock.advance(6.0)
    assign_v4(cloud, made.network_interface_id, ipv_4prefix=["10.0.24.48/28"])
    mac = f"network/interfaces/macs/{made.mac_address}"
    assert cloud.meta(f"{mac}/ipv4-prefixes") == '["10.0.24.32/28"]'
    assert cloud.meta(f"{mac}/ipv6-prefixes") == "[2001:db8:10:1:77::/80]"
    cloud.clock.advance(6.0)
    assert cloud.meta(f"{mac}/ipv4-prefixes") == '["10.0.24.32/28","10.0.24.48/28"]'
    primary = f"network/interfaces/macs/{cloud.meta('mac')}"
    for item in ("ipv4-prefixes", "ipv6-prefixes"):
        assert cloud.get(f"meta-data/{primary}/{item}")[0] == 404


def test_the_fabric_gives_them_to_the_eni(cloud: Bench) -> None:
    made = cloud.create(ipv_4prefix_count=1)
    cloud.attach(made.network_interface_id)
    (port,) = [p for p in cloud.state.fabric_view().ports if p.port_id == made.network_interface_id]
    wanted = {ip_network(entry.ipv_4prefix) for entry in made.ipv_4prefix_sets.ipv_4prefix_set}
    assert port.prefixes == wanted
    (prefix,) = wanted
    assert cloud.state.instance_at(str(prefix[9])) == "i-node1"
