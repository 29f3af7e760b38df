"""Values that no sensible client sends: an error names each, and no book is out by one."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Network
from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_vpc20160428 import models as vpc

from lab.cloud.addresses import AddressPool
from lab.spec import NodeSpec
from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal
from tests.unit.lab_cloud.wire import acs3

INVALID = Refusal("InvalidParameter", 400)
MALFORMED = Refusal("InvalidIp.Address", 403)
HUGE = "1" * 5000
"""More digits than Python makes a number of."""


def v6_vswitch(cloud: Bench) -> Any:
    (found,) = [v for v in cloud.state.spec.vswitches if v.vswitch_id == "vsw-pods"]
    return found.cidr_v6


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("DescribeNetworkInterfaces", {"MaxResults": HUGE}),
        ("DescribeNetworkInterfaces", {"PageNumber": HUGE}),
        ("AssignPrivateIpAddresses", {"NetworkInterfaceId": "x", "SecondaryPrivateIpAddressCount": HUGE}),
        ("DescribeInstances", {"InstanceIds": "[" * 20_000}),
        ("DescribeInstances", {"InstanceIds": f"[{HUGE}]"}),
    ],
)
def test_a_number_or_list_beyond_measure_is_refused(
    cloud: Bench, action: str, fields: dict[str, str]
) -> None:
    status, body, _ = acs3(cloud, action, fields).send(cloud)
    assert (status, body["Code"]) == (400, "InvalidParameter")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"PortRange": f"{HUGE}/{HUGE}"}, "InvalidIpPortRange.Malformed"),
        ({"Priority": HUGE}, "InvalidPriority.ValueNotSupported"),
    ],
)
def test_a_rule_beyond_measure_is_refused(cloud: Bench, fields: dict[str, str], code: str) -> None:
    rule = {
        "SecurityGroupId": "sg-other",
        "IpProtocol": "TCP",
        "PortRange": "1/2",
        "SourceCidrIp": "10.0.0.0/8",
    }
    status, body, _ = acs3(cloud, "AuthorizeSecurityGroup", {**rule, **fields}).send(cloud)
    assert (status, body["Code"]) == (400, code)


def test_an_address_with_a_zone_is_refused(cloud: Bench) -> None:
    """``%eth0`` makes two values of one address: it would be given twice, and freed while it is in use."""
    eni = cloud.create().network_interface_id
    address = str(v6_vswitch(cloud)[77])
    for named in ([f"{address}%a", f"{address}%b"], [f"{address}%a"]):
        request = ecs.AssignIpv6AddressesRequest(
            region_id=REGION, network_interface_id=eni, ipv_6address=named
        )
        assert refusal(partial(cloud.ecs().assign_ipv_6addresses, request)) == MALFORMED
    assert refusal(lambda: cloud.create(ipv_6address=[f"{address}%a"])) == MALFORMED
    block = f"{v6_vswitch(cloud)[5 << 48]}%a/80"
    assert refusal(lambda: cloud.create(ipv_6prefix=[block])) == INVALID


@pytest.mark.parametrize(
    "cidr", ["fd00:77::%a/64", "::ffff:10.0.0.0/104", "::ffff:0:0/96", "::ffff:10.0.0.1"]
)
def test_a_destination_that_is_ipv4_in_ipv6_or_has_a_zone_is_refused(cloud: Bench, cidr: str) -> None:
    request = vpc.CreateRouteEntryRequest(
        region_id=REGION, route_table_id="vtb-lab", destination_cidr_block=cidr, next_hop_id="i-node1"
    )
    assert refusal(lambda: cloud.vpc().create_route_entry(request)).status == 400


def test_a_rule_whose_cidr_has_a_zone_is_refused(cloud: Bench) -> None:
    rule = {"SecurityGroupId": "sg-other", "IpProtocol": "ALL"}
    for peer in ({"Ipv6SourceCidrIp": "fd00::%a/64"}, {"SourceGroupId": "10.0.0.0/8"}):
        status, _, _ = acs3(cloud, "AuthorizeSecurityGroup", {**rule, **peer}).send(cloud)
        assert status in (400, 404)


def test_an_eni_whose_ipv6_addresses_there_are_not_takes_no_ipv4(cloud: Bench) -> None:
    pools = cloud.state.resources.pools["vsw-pods"]
    pools.v6 = AddressPool(IPv6Network("2001:db8:10:1::/124"))
    before = pools.v4.available
    assert refusal(lambda: cloud.create(ipv_6address_count=10)).code == "InvalidVSwitchId.IpNotEnough"
    assert pools.v4.available == before


def test_an_eni_is_in_a_group_once_and_in_ten_at_most(cloud: Bench) -> None:
    eni = cloud.create(security_group_id=None, security_group_ids=["sg-other", "sg-cluster", "sg-other"])
    assert eni.security_group_ids.security_group_id == ["sg-other", "sg-cluster"]
    made = [
        cloud.ecs().create_security_group(ecs.CreateSecurityGroupRequest(region_id=REGION, vpc_id="vpc-lab"))
        for _ in range(11)
    ]
    request = ecs.ModifyNetworkInterfaceAttributeRequest(
        region_id=REGION,
        network_interface_id=eni.network_interface_id,
        security_group_id=[group.body.security_group_id for group in made],
    )
    assert refusal(lambda: cloud.ecs().modify_network_interface_attribute(request)) == INVALID


def test_a_node_in_a_group_that_was_deleted_is_refused(cloud: Bench) -> None:
    """Its port would be in a group that no view has, and no view would be applied any more."""
    request = ecs.DeleteSecurityGroupRequest(region_id=REGION, security_group_id="sg-other")
    cloud.ecs().delete_security_group(request)
    with pytest.raises(ValueError, match="no security group sg-other"):
        cloud.state.add_instance(NodeSpec("late", groups=("sg-other",)))


def test_a_fault_of_the_labs_own_is_answered_and_counted(
    cloud: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of the lab")

    monkeypatch.setattr(type(cloud.state.interfaces), "create", broken)
    called = acs3(cloud, "CreateNetworkInterface", {"VSwitchId": "vsw-pods", "SecurityGroupId": "sg-cluster"})
    status, body, _ = called.send(cloud)
    assert (status, body["Code"]) == (500, "InternalError")
    assert cloud.state.log.recent()[-1].code == "InternalError"
    assert "ZeroDivisionError: of the lab" in capfd.readouterr().err
