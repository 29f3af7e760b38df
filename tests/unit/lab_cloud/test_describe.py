"""Describe* of both APIs: filters, both ways of paging, what is not there."""

from __future__ import annotations

from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_vpc20160428 import models as vpc

from lab.cloud.instance_types import INSTANCE_TYPES
from lab.spec import RuleSpec
from tests.unit.lab_cloud.bench import REGION, ZONE_B_VSWITCH, Bench, Refusal, refusal


def _interfaces(cloud: Bench, **fields: Any) -> Any:
    request = ecs.DescribeNetworkInterfacesRequest(region_id=REGION, **fields)
    return cloud.ecs().describe_network_interfaces(request).body


def _ids(enis: list[Any]) -> list[str]:
    return [eni.network_interface_id for eni in enis]


def test_filters(cloud: Bench) -> None:
    one = cloud.create(tag=[ecs.CreateNetworkInterfaceRequestTag(key="a", value="1")])
    two = cloud.create(vswitch=ZONE_B_VSWITCH, tag=[ecs.CreateNetworkInterfaceRequestTag(key="a", value="2")])
    first, second = one.network_interface_id, two.network_interface_id
    cloud.attach(first)
    tag = ecs.DescribeNetworkInterfacesRequestTag
    assert _ids(cloud.describe(network_interface_id=[first, "eni-none"])) == [first]
    assert _ids(cloud.describe(v_switch_id=ZONE_B_VSWITCH)) == [second]
    assert _ids(cloud.describe(instance_id="i-node1")) == [first, "eni-node1"]
    assert _ids(cloud.describe(instance_id="i-node1", type="Primary")) == ["eni-node1"]
    assert _ids(cloud.describe(status="Available")) == [second]
    assert _ids(cloud.describe(tag=[tag(key="a", value="2")])) == [second]
    assert _ids(cloud.describe(tag=[tag(key="a")])) == [first, second]
    assert _ids(cloud.describe(private_ip_address=[one.private_ip_address])) == [first]
    assert _ids(cloud.describe(security_group_id="sg-other")) == []
    assert _ids(cloud.describe(vpc_id="vpc-other")) == []
    assert len(cloud.describe(vpc_id=cloud.state.spec.vpc_id)) == 5


def test_pages_by_token(cloud: Bench) -> None:
    expected = [cloud.create().network_interface_id for _ in range(5)]
    seen: list[str] = []
    token: str | None = ""
    pages = 0
    while token is not None:
        body = _interfaces(cloud, type="Secondary", max_results=2, next_token=token)
        page = _ids(body.network_interface_sets.network_interface_set)
        if pages == 0:
            cloud.delete(page[-1])
        seen += page
        token = body.next_token or None
        pages += 1
    assert (seen, pages) == (expected, 3)


def test_pages_by_number(cloud: Bench) -> None:
    expected = [cloud.create().network_interface_id for _ in range(3)]
    body = _interfaces(cloud, type="Secondary", page_number=2, page_size=2)
    assert _ids(body.network_interface_sets.network_interface_set) == expected[2:]
    assert (body.total_count, body.page_number, body.page_size) == (3, 2, 2)


@pytest.mark.parametrize(
    "fields", [{"max_results": 501}, {"next_token": "x", "max_results": 1}, {"page_size": 0}]
)
def test_bad_pages(cloud: Bench, fields: dict[str, Any]) -> None:
    assert refusal(lambda: _interfaces(cloud, **fields)) == Refusal("InvalidParameter", 400)


def test_attribute_of_an_eni_that_is_gone_is_an_empty_answer(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id

    def attribute() -> Any:
        return cloud.ecs().describe_network_interface_attribute(
            ecs.DescribeNetworkInterfaceAttributeRequest(region_id=REGION, network_interface_id=eni)
        )

    assert attribute().body.network_interface_id == eni
    cloud.delete(eni)
    answer = attribute()
    assert (answer.status_code, answer.body.network_interface_id) == (200, None)


def test_instance_types(cloud: Bench) -> None:
    def types(**fields: Any) -> Any:
        return cloud.ecs().describe_instance_types(ecs.DescribeInstanceTypesRequest(**fields)).body

    body = types(instance_types=["ecs.g7.4xlarge"], max_results=100)
    (kind,) = body.instance_types.instance_type
    assert (kind.eni_quantity, kind.eni_private_ip_address_quantity) == (8, 30)
    assert (kind.eni_trunk_supported, kind.cpu_core_count, kind.memory_size) == (True, 16, 64)
    assert body.next_token in ("", None)
    first = types(max_results=20)
    second = types(max_results=20, next_token=first.next_token)
    names = [kind.instance_type_id for page in (first, second) for kind in page.instance_types.instance_type]
    assert sorted(names) == sorted(INSTANCE_TYPES)
    assert types(instance_types=["ecs.none"]).instance_types.instance_type == []


def test_an_instance_types_network(cloud: Bench) -> None:
    request = ecs.DescribeInstanceTypesRequest(instance_types=["ecs.g6.large"])
    (kind,) = cloud.ecs().describe_instance_types(request).body.instance_types.instance_type
    assert (kind.instance_bandwidth_rx, kind.instance_bandwidth_tx) == (1024000, 1024000)
    assert (kind.instance_pps_rx, kind.instance_pps_tx) == (300000, 300000)
    assert (kind.primary_eni_queue_number, kind.secondary_eni_queue_number) == (2, 2)
    assert (kind.maximum_queue_number_per_eni, kind.total_eni_queue_quantity) == (2, 4)
    assert (kind.network_card_quantity, kind.queue_pair_number, kind.eri_quantity) == (0, 0, 0)
    assert (kind.instance_category, kind.eni_trunk_supported) == ("General-purpose", False)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (
            {"instance_type_family": "ecs.c6", "minimum_cpu_core_count": 52},
            ["ecs.c6.13xlarge", "ecs.c6.26xlarge"],
        ),
        ({"maximum_cpu_core_count": 2, "maximum_memory_size": 4.0}, ["ecs.c6.large", "ecs.c7.large"]),
        (
            {"minimum_eni_quantity": 15, "minimum_eni_ipv_6address_quantity": 2},
            ["ecs.c7.32xlarge", "ecs.g7.32xlarge"],
        ),
        ({"minimum_instance_bandwidth_rx": 65_536_000}, ["ecs.c7.32xlarge", "ecs.g7.32xlarge"]),
        ({"minimum_instance_pps_tx": 24_000_000}, ["ecs.c7.32xlarge", "ecs.g7.32xlarge"]),
        ({"minimum_eri_quantity": 1}, []),
        ({"minimum_gpuamount": 1}, []),
        ({"cpu_architecture": "ARM"}, []),
        (
            {"instance_category": "Compute-optimized", "maximum_cpu_core_count": 2},
            ["ecs.c6.large", "ecs.c7.large"],
        ),
        ({"instance_type_families": ["ecs.g6"], "maximum_cpu_core_count": 2}, ["ecs.g6.large"]),
    ],
)
def test_instance_types_are_filtered(cloud: Bench, fields: dict[str, Any], found: list[str]) -> None:
    body = cloud.ecs().describe_instance_types(ecs.DescribeInstanceTypesRequest(**fields)).body
    assert [kind.instance_type_id for kind in body.instance_types.instance_type] == found


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"gpuspec": "V100"}, "UnsupportedParameter"),
        ({"local_storage_category": "local_ssd_pro"}, "UnsupportedParameter"),
        ({"minimum_cpu_core_count": -1}, "InvalidParameter"),
        ({"max_results": 101}, "InvalidParameter"),
        ({"next_token": "foreign"}, "InvalidParameter"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(cloud: Bench, fields: dict[str, Any], code: str) -> None:
    request = ecs.DescribeInstanceTypesRequest(**fields)
    assert refusal(lambda: cloud.ecs().describe_instance_types(request)).code == code


def test_instances(cloud: Bench) -> None:
    def instances(**fields: Any) -> list[Any]:
        request = ecs.DescribeInstancesRequest(region_id=REGION, **fields)
        return list(cloud.ecs().describe_instances(request).body.instances.instance)

    (node,) = instances(instance_ids='["i-node2", "i-none"]')
    assert (node.instance_id, node.host_name, node.instance_type) == ("i-node2", "node2", "ecs.g7.xlarge")
    assert node.vpc_attributes.private_ip_address.ip_address == ["10.0.0.2"]
    assert len(instances()) == 3
    assert refusal(lambda: instances(instance_ids="i-node2")) == Refusal("InvalidParameter", 400)


def test_one_instance_that_is_not_there(cloud: Bench) -> None:
    def attribute(instance_id: str) -> Any:
        request = ecs.DescribeInstanceAttributeRequest(instance_id=instance_id)
        return cloud.ecs().describe_instance_attribute(request).body

    assert attribute("i-node1").zone_id == "cn-hangzhou-a"
    assert refusal(lambda: attribute("i-none")) == Refusal("InvalidInstanceId.NotFound", 404)


def test_security_groups(cloud: Bench) -> None:
    def groups(**fields: Any) -> list[str]:
        request = ecs.DescribeSecurityGroupsRequest(region_id=REGION, **fields)
        found = cloud.ecs().describe_security_groups(request).body.security_groups.security_group
        return [group.security_group_id for group in found]

    assert groups() == ["sg-cluster", "sg-other"]
    assert groups(security_group_ids='["sg-other"]') == ["sg-other"]
    assert groups(security_group_id="sg-none") == []


def test_rules_of_a_security_group(cloud: Bench) -> None:
    def rules() -> list[Any]:
        request = ecs.DescribeSecurityGroupAttributeRequest(
            region_id=REGION, security_group_id="sg-other", direction="ingress"
        )
        return list(cloud.ecs().describe_security_group_attribute(request).body.permissions.permission)

    assert rules() == []
    rule = RuleSpec("ingress", policy="Drop", protocol="TCP", ports=(80, 81), peer="sg-cluster", priority=5)
    cloud.state.edit_group("sg-other", add=(rule,))
    (seen,) = rules()
    assert (seen.policy, seen.ip_protocol, seen.port_range) == ("Drop", "TCP", "80/81")
    assert (seen.source_group_id, seen.priority) == ("sg-cluster", "5")
    cloud.state.edit_group("sg-other", remove=(rule,))
    assert rules() == []


def test_vswitches(cloud: Bench) -> None:
    def vswitches(**fields: Any) -> list[Any]:
        request = vpc.DescribeVSwitchesRequest(region_id=REGION, **fields)
        return list(cloud.vpc().describe_vswitches(request).body.v_switches.v_switch)

    (pods,) = vswitches(v_switch_id="vsw-pods")
    assert (pods.zone_id, pods.cidr_block) == ("cn-hangzhou-a", "10.0.16.0/20")
    assert pods.available_ip_address_count == 4096 - 4
    cloud.create(secondary_private_ip_address_count=9)
    assert vswitches(v_switch_id="vsw-pods")[0].available_ip_address_count == 4096 - 4 - 10
    assert [v.v_switch_id for v in vswitches(zone_id="cn-hangzhou-b")] == [ZONE_B_VSWITCH]
    assert vswitches(v_switch_id="vsw-none") == []
    assert len(vswitches(vpc_id="vpc-lab", page_size=2, page_number=2)) == 1
