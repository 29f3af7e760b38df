"""Route entries through the VPC SDK: made, seen, deleted, refused; and what the fabric is told of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_vpc20160428 import models as vpc

from lab.cloud.faults import Drop, Fault
from lab.fabric.view import Route
from lab.spec import NodeSpec
from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal
from tests.unit.lab_cloud.wire import acs3

TABLE = "vtb-lab"
PODS = "172.20.1.0/24"
VPC_API = {"x_acs_version": "2016-04-28"}
INVALID = Refusal("InvalidParameter", 400)
UNSTABLE = Refusal("IncorrectRouteEntryStatus", 400)
GONE = Refusal("InvalidRouteEntry.NotFound", 400)


def create(cloud: Bench, cidr: str = PODS, hop: str | None = "i-node1", **fields: Any) -> str:
    fields = {"route_table_id": TABLE, "next_hop_type": "Instance", **fields}
    request = vpc.CreateRouteEntryRequest(
        region_id=REGION, destination_cidr_block=cidr, next_hop_id=hop, **fields
    )
    return str(cloud.vpc().create_route_entry(request).body.route_entry_id)


def delete(cloud: Bench, cidr: str | None = PODS, hop: str | None = "i-node1", **fields: Any) -> None:
    fields = {"route_table_id": TABLE, "destination_cidr_block": cidr, "next_hop_id": hop, **fields}
    cloud.vpc().delete_route_entry(vpc.DeleteRouteEntryRequest(region_id=REGION, **fields))


def listed(cloud: Bench, **fields: Any) -> list[Any]:
    """Every page."""
    fields = {"route_table_id": TABLE, "max_result": 100, **fields}
    found, token = [], ""
    while True:
        request = vpc.DescribeRouteEntryListRequest(region_id=REGION, next_token=token, **fields)
        body = cloud.vpc().describe_route_entry_list(request).body
        found += body.route_entrys.route_entry
        token = body.next_token
        if not token:
            assert body.total_count == len(found)
            return found


def custom(cloud: Bench) -> dict[str, str]:
    """Status by destination."""
    return {e.destination_cidr_block: e.status for e in listed(cloud, route_entry_type="Custom")}


def several(cloud: Bench, *entries: tuple[str, str]) -> Any:
    """CreateRouteEntries of (destination, instance)."""
    each = [
        vpc.CreateRouteEntriesRequestRouteEntries(
            route_table_id=TABLE, dst_cidr_block=cidr, next_hop=hop, next_hop_type="Instance"
        )
        for cidr, hop in entries
    ]
    request = vpc.CreateRouteEntriesRequest(region_id=REGION, route_entries=each)
    return cloud.vpc().create_route_entries(request).body


def test_an_entry_is_made_seen_and_deleted(cloud: Bench) -> None:
    entry_id = create(cloud, route_entry_name="pods", description="of node1")
    (seen,) = listed(cloud, route_entry_type="Custom")
    assert (seen.route_entry_id, seen.destination_cidr_block) == (entry_id, PODS)
    assert (seen.status, seen.type, seen.ip_version) == ("Available", "Custom", "IPv4")
    assert (seen.route_entry_name, seen.description, seen.route_table_id) == ("pods", "of node1", TABLE)
    (hop,) = seen.next_hops.next_hop
    assert (hop.next_hop_type, hop.next_hop_id) == ("Instance", "i-node1")
    delete(cloud)
    assert custom(cloud) == {}
    assert refusal(lambda: delete(cloud)) == GONE


def test_the_system_entries(cloud: Bench) -> None:
    """One per vSwitch and family, and the cloud's services. Nobody deletes them."""
    system = {e.destination_cidr_block: e for e in listed(cloud, route_entry_type="System")}
    assert set(system) == {
        *("10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20", "100.64.0.0/10"),
        *("2001:db8:10::/64", "2001:db8:10:1::/64"),
    }
    assert {hop.next_hop_type for e in system.values() for hop in e.next_hops.next_hop} == {"local"}
    assert refusal(lambda: delete(cloud, "10.0.16.0/20")) == Refusal("OperationDenied", 400)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"route_table_id": "vtb-none"}, Refusal("InvalidRouteTableId.NotFound", 404)),
        ({"route_table_id": None}, Refusal("MissingParameter", 400)),
        ({"hop": None}, Refusal("MissingParameter", 400)),
        ({"cidr": "172.20.1.0/33"}, Refusal("InvalidCidrBlock.Malformed", 400)),
        ({"cidr": "172.20.1.5/24"}, Refusal("InvalidCidrBlock.Malformed", 400)),
        ({"cidr": "pods"}, Refusal("InvalidCidrBlock.Malformed", 400)),
        ({"cidr": "100.64.0.0/10"}, Refusal("InvalidCidrBlock", 400)),
        ({"cidr": "100.100.0.0/16"}, Refusal("InvalidCidrBlock", 400)),
        ({"cidr": "10.0.16.0/20"}, Refusal("InvalidCidrBlock", 400)),
        ({"cidr": "10.0.16.64/26"}, Refusal("InvalidCidrBlock", 400)),
        (
            {"cidr": "2001:db8:10:1:5::/80"},
            Refusal("OperationUnsupported.DestinationCidrBlockOverlapWithVSwitch", 400),
        ),
        (
            {"cidr": "2001:db8::/32"},
            Refusal("OperationUnsupported.DestinationCidrBlockOverlapWithVSwitch", 400),
        ),
        ({"hop": "i-none"}, Refusal("InvalidNextHop.NotFound", 400)),
        ({"hop": "eni-none", "next_hop_type": "NetworkInterface"}, Refusal("InvalidNextHop.NotFound", 400)),
        ({"next_hop_type": "HaVip"}, INVALID),
        ({"route_entry_name": "http://x"}, Refusal("InvalidRouteEntryName.Malformed", 400)),
        ({"description": "x" * 257}, INVALID),
        ({"cidr": "fd00::/64", "hop": "i-plain"}, Refusal("OperationFailed.NotSupportIPV6", 400)),
        (
            {"cidr": "fd00::/64", "hop": "eni-node1", "next_hop_type": "NetworkInterface"},
            Refusal("OperationUnsupported.Ipv6EntryOnPrimaryNetworkInterface", 400),
        ),
        ({"dry_run": True}, Refusal("DryRunOperation", 400)),
    ],
)
def test_create_refuses(cloud: Bench, fields: dict[str, Any], expected: Refusal) -> None:
    cloud.state.add_instance(NodeSpec("plain", zone="cn-hangzhou-b", vswitch_id="vsw-zone-b"))
    assert refusal(lambda: create(cloud, **fields)) == expected
    assert custom(cloud) == {}


def test_a_destination_is_there_once(cloud: Bench) -> None:
    create(cloud)
    duplicate = Refusal("InvalidCIDRBlock.Duplicate", 400)
    assert refusal(lambda: create(cloud)) == duplicate
    assert refusal(lambda: create(cloud, hop="i-node2")) == duplicate
    create(cloud, "172.20.1.0/25", "i-node2")
    create(cloud, "172.20.1.7", "i-node2")
    assert set(custom(cloud)) == {PODS, "172.20.1.0/25", "172.20.1.7/32"}


def test_an_entry_may_lie_around_a_vswitch(cloud: Bench) -> None:
    create(cloud, "10.0.0.0/8")
    create(cloud, "0.0.0.0/0", "i-node2")
    assert set(custom(cloud)) == {"10.0.0.0/8", "0.0.0.0/0"}


def test_a_table_has_room_for_so_many(cloud: Bench) -> None:
    cloud.state.quotas.route_entries = 2
    create(cloud)
    create(cloud, "172.20.2.0/24")
    assert refusal(lambda: create(cloud, "172.20.3.0/24")) == Refusal("QuotaExceeded", 400)
    delete(cloud)
    create(cloud, "172.20.3.0/24")


def test_an_entry_takes_its_time_by_the_clock(cloud: Bench) -> None:
    cloud.state.set_delays(route=5.0)
    create(cloud)
    assert custom(cloud) == {PODS: "Pending"}
    assert cloud.state.fabric_view().routes == ()
    assert refusal(lambda: create(cloud, "172.20.2.0/24")) == UNSTABLE
    assert refusal(lambda: delete(cloud)) == UNSTABLE
    now = cloud.clock.now()
    due = cloud.state.next_change(now)
    assert due is not None
    assert due <= now + 5.0
    cloud.clock.advance(5.0)
    assert custom(cloud) == {PODS: "Available"}
    wanted = (Route(ip_network(PODS), "eni-node1"),)
    assert cloud.state.fabric_view().routes == wanted
    delete(cloud)
    assert custom(cloud) == {PODS: "Pending"}
    assert cloud.state.fabric_view().routes == wanted
    cloud.clock.advance(5.0)
    assert custom(cloud) == {}
    assert cloud.state.fabric_view().routes == ()


def test_each_view_has_its_own_lag(cloud: Bench) -> None:
    cloud.state.set_delays(describe=60.0, fabric=30.0)
    create(cloud)
    assert (custom(cloud), cloud.state.fabric_view().routes) == ({}, ())
    cloud.clock.advance(30.0)
    assert custom(cloud) == {}
    assert len(cloud.state.fabric_view().routes) == 1
    cloud.clock.advance(30.0)
    assert custom(cloud) == {PODS: "Available"}


def test_next_hops(cloud: Bench) -> None:
    """An ENI by its id, and an instance that is gone: the entry stays and leads nowhere."""
    eni = cloud.create().network_interface_id
    create(cloud, "172.20.5.0/24", eni, next_hop_type="NetworkInterface")
    create(cloud, hop="i-node2")
    create(cloud, "fd00:20:1::/64", "i-node2")
    routes = {str(r.destination): r.port_id for r in cloud.state.fabric_view().routes}
    assert routes == {"172.20.5.0/24": eni, PODS: "eni-node2", "fd00:20:1::/64": "eni-node2"}
    cloud.state.remove_instance("i-node2")
    routes = {str(r.destination): r.port_id for r in cloud.state.fabric_view().routes}
    assert routes == {"172.20.5.0/24": eni, PODS: "", "fd00:20:1::/64": ""}
    assert PODS in custom(cloud)


def test_a_strict_address_check_is_an_assumption(cloud: Bench) -> None:
    """The page on the check says own addresses only; then an entry's next hop has to have it off."""
    strict = replace(cloud.state.spec.assumptions, route_entries_pass_check=False)
    cloud.state.spec = replace(cloud.state.spec, assumptions=strict)
    eni = cloud.create().network_interface_id
    create(cloud, hop=eni, next_hop_type="NetworkInterface")
    assert [r.port_id for r in cloud.state.fabric_view().routes] == [""]
    off = ecs.ModifyNetworkInterfaceAttributeRequest(
        region_id=REGION, network_interface_id=eni, source_dest_check=False
    )
    cloud.ecs().modify_network_interface_attribute(off)
    assert [r.port_id for r in cloud.state.fabric_view().routes] == [eni]


def test_an_ipv6_entry_wants_one_address(cloud: Bench) -> None:
    eni = cloud.create(ipv_6address_count=2).network_interface_id
    several_v6 = Refusal("OperationUnsupported.MutipleIpv6Address", 400)
    hop = {"hop": eni, "next_hop_type": "NetworkInterface"}
    assert refusal(lambda: create(cloud, "fd00::/64", **hop)) == several_v6
    create(cloud, **hop)


def test_a_pod_of_an_entry_is_its_node_to_the_services(cloud: Bench) -> None:
    create(cloud, "172.20.0.0/16", "i-node2")
    create(cloud)
    create(cloud, "0.0.0.0/0", "i-node2")
    assert cloud.state.instance_at("172.20.1.9") == "i-node1"
    assert cloud.state.instance_at("172.20.2.9") == "i-node2"
    assert cloud.state.instance_at("198.51.100.1") is None


def test_several_at_once_and_which_failed(cloud: Bench) -> None:
    cloud.state.set_delays(route=5.0)
    body = several(cloud, (PODS, "i-node1"), ("172.20.2.0/24", "i-node2"), (PODS, "i-node2"))
    assert (body.success_count, body.failed_count, len(body.route_entry_ids)) == (2, 1, 2)
    (failed,) = body.failed_route_entries
    assert (failed.dst_cidr_block, failed.next_hop) == (PODS, "i-node2")
    assert failed.failed_code == "InvalidCIDRBlock.Duplicate"
    cloud.clock.advance(5.0)
    assert custom(cloud) == {PODS: "Available", "172.20.2.0/24": "Available"}
    each = [
        vpc.DeleteRouteEntriesRequestRouteEntries(route_table_id=TABLE, dst_cidr_block=cidr, next_hop=hop)
        for cidr, hop in ((PODS, "i-node1"), ("172.20.2.0/24", "i-node2"), ("172.20.9.0/24", "i-node2"))
    ]
    request = vpc.DeleteRouteEntriesRequest(region_id=REGION, route_entries=each)
    gone = cloud.vpc().delete_route_entries(request).body
    assert (gone.success_count, gone.failed_count) == (2, 1)
    assert gone.failed_route_entries[0].failed_code == "InvalidRouteEntry.NotFound"
    cloud.clock.advance(5.0)
    assert custom(cloud) == {}


def test_several_are_bounded(cloud: Bench) -> None:
    entries = [(f"172.20.{n}.0/24", "i-node1") for n in range(51)]
    assert refusal(lambda: several(cloud, *entries)) == INVALID
    assert several(cloud, *entries[:50]).success_count == 50
    assert len(listed(cloud, route_entry_type="Custom", max_result=7)) == 50


def test_fields_of_an_entry_are_read_or_refused(cloud: Bench) -> None:
    entry = {"RouteTableId": TABLE, "DstCidrBlock": PODS, "NextHop": "i-node1", "NextHopType": "Instance"}
    wire = {f"RouteEntries.1.{name}": value for name, value in entry.items()}
    unread = acs3(cloud, "CreateRouteEntries", wire | {"RouteEntries.1.Weight": "9"}, **VPC_API)
    assert unread.code(cloud) == ("UnsupportedParameter", 400)
    assert custom(cloud) == {}
    assert acs3(cloud, "CreateRouteEntries", wire, **VPC_API).code(cloud) == ("", 200)
    wrong = acs3(cloud, "CreateRouteEntries", wire | {"RouteEntries.1.IpVersion": "6"}, **VPC_API)
    assert wrong.send(cloud)[1]["FailedRouteEntries"][0]["FailedCode"] == "InvalidParameter"


def test_a_delete_names_its_entry_one_way(cloud: Bench) -> None:
    entry_id = create(cloud)
    assert refusal(lambda: delete(cloud, hop="i-node2")) == GONE
    assert refusal(lambda: delete(cloud, hop=None)) == Refusal("InvalidNextHop", 400)
    both = Refusal("ParamExclusive.RouteEntryIdAndRouteTableIdOrDestCidrBlock", 400)
    assert refusal(lambda: delete(cloud, route_entry_id=entry_id)) == both
    by_id = {"cidr": None, "hop": None, "route_table_id": None}
    unknown = Refusal("InvalidRouteEntryId.NotFound", 400)
    assert refusal(lambda: delete(cloud, **by_id, route_entry_id="rte-none")) == unknown
    assert refusal(lambda: delete(cloud, dry_run=True)) == Refusal("DryRunOperation", 400)
    delete(cloud, **by_id, route_entry_id=entry_id)
    assert custom(cloud) == {}


def test_filters(cloud: Bench) -> None:
    create(cloud, route_entry_name="one")
    create(cloud, "fd00::/64", "i-node2")
    for fields, expected in (
        ({"next_hop_id": "i-node2"}, ["fd00::/64"]),
        ({"next_hop_type": "Instance", "ip_version": "ipv4"}, [PODS]),
        ({"destination_cidr_block": PODS}, [PODS]),
        ({"route_entry_name": "one"}, [PODS]),
        ({"dest_cidr_block_list": ["fd00::/64", "fd01::/64"]}, ["fd00::/64"]),
        ({"route_entry_id": "rte-none"}, []),
    ):
        assert [e.destination_cidr_block for e in listed(cloud, **fields)] == expected
    unknown = Refusal("InvalidRouteTableId.NotFound", 404)
    assert refusal(lambda: listed(cloud, route_table_id="vtb-none")) == unknown
    assert refusal(lambda: listed(cloud, service_type="TR")) == Refusal("UnsupportedParameter", 400)


def test_a_token_makes_one_entry(cloud: Bench) -> None:
    entry_id = create(cloud, client_token="route-1")
    assert create(cloud, client_token="route-1") == entry_id
    mismatch = Refusal("IdempotentParameterMismatch", 400)
    assert refusal(lambda: create(cloud, hop="i-node2", client_token="route-1")) == mismatch


def test_faults_and_denials(cloud: Bench) -> None:
    cloud.state.faults.add(
        Fault(action="CreateRouteEntry", instance_id="i-node2", code="TaskConflict", count=1)
    )
    assert refusal(lambda: create(cloud, hop="i-node2")) == Refusal("TaskConflict", 400)
    cloud.state.faults.add(Fault(action="CreateRouteEntry", drop=Drop.AFTER, count=1))
    with pytest.raises(Exception, match=r"(?i)connection|remote"):
        create(cloud, hop="i-node2")
    assert custom(cloud) == {PODS: "Available"}
    cloud.state.credentials.deny("DeleteRouteEntry")
    assert refusal(lambda: delete(cloud, hop="i-node2")) == Refusal("Forbidden.RAM", 403)


def test_one_write_at_a_time(cloud: Bench) -> None:
    """While a slow write to the table is under way, another one is a conflict."""
    cloud.state.faults.add(Fault(action="CreateRouteEntry", latency=30.0, count=1))
    slow = threading.Thread(target=lambda: refusal_or_answer(cloud))
    slow.start()
    while cloud.state.faults.listing():
        pass
    conflict = Refusal("TaskConflict", 400)
    while (seen := delete_code(cloud)) != conflict:
        assert seen == GONE
    cloud.openapi.stop()
    slow.join()


def refusal_or_answer(cloud: Bench) -> None:
    try:
        create(cloud)
    except Exception:  # noqa: BLE001  # the server ends under it
        return


def delete_code(cloud: Bench) -> Refusal:
    return refusal(lambda: delete(cloud))


def test_the_vpc_and_its_table(cloud: Bench) -> None:
    (found,) = cloud.vpc().describe_vpcs(vpc.DescribeVpcsRequest(region_id=REGION)).body.vpcs.vpc
    assert (found.vpc_id, found.cidr_block, found.status) == ("vpc-lab", "10.0.0.0/16", "Available")
    assert found.router_table_ids.router_table_ids == [TABLE]
    assert found.v_switch_ids.v_switch_id == ["vsw-nodes", "vsw-pods", "vsw-zone-b"]
    other = vpc.DescribeVpcsRequest(region_id=REGION, vpc_id="vpc-none")
    assert cloud.vpc().describe_vpcs(other).body.vpcs.vpc == []
    one = cloud.vpc().describe_vpc_attribute(
        vpc.DescribeVpcAttributeRequest(region_id=REGION, vpc_id="vpc-lab")
    )
    assert (one.body.ipv_6cidr_block, one.body.vrouter_id) == ("2001:db8:10::/56", found.vrouter_id)
    unknown = vpc.DescribeVpcAttributeRequest(region_id=REGION, vpc_id="vpc-none")
    missing = Refusal("InvalidVpcId.NotFound", 404)
    assert refusal(lambda: cloud.vpc().describe_vpc_attribute(unknown)) == missing
    request = vpc.DescribeRouteTableListRequest(region_id=REGION, vpc_id="vpc-lab")
    body = cloud.vpc().describe_route_table_list(request).body
    (table,) = body.router_table_list.router_table_list_type
    assert (table.route_table_id, table.route_table_type) == (TABLE, "System")
    assert table.router_id == found.vrouter_id
    none = vpc.DescribeRouteTableListRequest(region_id=REGION, route_table_type="Custom")
    body = cloud.vpc().describe_route_table_list(none).body
    assert body.router_table_list.router_table_list_type == []
