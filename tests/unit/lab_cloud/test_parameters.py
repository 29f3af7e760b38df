"""No parameter is swallowed: an action refuses what it does not read, and Describe shows what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_vpc20160428 import models as vpc

from lab.cloud.actions import ACTIONS
from lab.cloud.actions.action import Action, Api
from tests.unit.lab_cloud.bench import Bench, Refusal, refusal
from tests.unit.lab_cloud.wire import acs3

SDK = {Api.ECS: ecs, Api.VPC: vpc}
HEADERS: dict[Api, dict[str, str]] = {Api.ECS: {}, Api.VPC: {"x_acs_version": Api.VPC}}


def of_the_sdk(action: Action) -> set[str]:
    """The wire names of all parameters that the SDK can send with ``action``, structs by their own name."""
    kind = getattr(SDK[action.api], f"{action.name}Request")
    found = set()
    for attribute in vars(kind()):
        request = kind()
        setattr(request, attribute, _Struct())
        found |= request.to_map().keys()
    return found


class _Struct:
    """Whatever a request may hold: it is empty as a list and as a struct."""

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def to_map(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
def test_what_is_not_read_is_refused_by_name(cloud: Bench, action: Action) -> None:
    names = action.unsupported({*of_the_sdk(action), "NoSuchParameter"})
    assert "NoSuchParameter" in names
    for name in names:
        for sent in (name, f"{name}.1", f"{name}.1.Key"):
            status, body, _ = acs3(cloud, action.name, {sent: "1"}, **HEADERS[action.api]).send(cloud)
            assert (status, body["Code"]) == (400, "UnsupportedParameter")
            assert f'"{name}"' in body["Message"]


def test_every_action_says_what_it_reads() -> None:
    assert [action.name for action in ACTIONS.values() if action.takes is None] == []


def test_what_is_read_is_what_the_api_has() -> None:
    for action in ACTIONS.values():
        assert (action.takes or frozenset()) <= of_the_sdk(action), action.name


UPSTREAM = {
    "CreateNetworkInterface": "VSwitchId SecurityGroupIds InstanceType NetworkInterfaceTrafficMode "
    "ResourceGroupId Description SecondaryPrivateIpAddressCount Ipv6AddressCount DeleteOnRelease "
    "SourceDestCheck Tag ClientToken",
    "AttachNetworkInterface": "NetworkInterfaceId InstanceId TrunkNetworkInstanceId NetworkCardIndex",
    "DetachNetworkInterface": "NetworkInterfaceId InstanceId TrunkNetworkInstanceId",
    "DeleteNetworkInterface": "NetworkInterfaceId",
    "DescribeNetworkInterfaces": "VpcId InstanceId Type Status NetworkInterfaceId Tag MaxResults NextToken",
    "DescribeNetworkInterfaceAttribute": "NetworkInterfaceId Attribute",
    "AssignPrivateIpAddresses": "NetworkInterfaceId SecondaryPrivateIpAddressCount ClientToken",
    "UnassignPrivateIpAddresses": "NetworkInterfaceId PrivateIpAddress",
    "AssignIpv6Addresses": "NetworkInterfaceId Ipv6AddressCount ClientToken",
    "UnassignIpv6Addresses": "NetworkInterfaceId Ipv6Address",
    "DescribeInstanceTypes": "InstanceTypes MaxResults NextToken",
    "DescribeVSwitches": "VSwitchId",
}
"""What upstream's daemon and control plane send, without prefixes."""


def test_what_upstream_sends_is_read() -> None:
    names = {action.name: action for action in ACTIONS.values()}
    for name, sent in UPSTREAM.items():
        assert names[name].unsupported({"RegionId", *sent.split()}) == [], name


@pytest.mark.parametrize(
    "fields",
    [
        {"queue_pair_number": 2},
        {"rx_queue_size": 8192},
        {"tx_queue_size": 8192},
        {"business_type": "x"},
        {"visible": True},
        {"network_interface_traffic_mode": "HighPerformance"},
        {
            "connection_tracking_configuration": (
                ecs.CreateNetworkInterfaceRequestConnectionTrackingConfiguration(udp_timeout=30)
            )
        },
        {
            "network_interface_traffic_config": (
                ecs.CreateNetworkInterfaceRequestNetworkInterfaceTrafficConfig(queue_number=2)
            )
        },
    ],
)
def test_a_creation_that_asks_for_more_than_the_lab_has_makes_nothing(
    cloud: Bench, fields: dict[str, Any]
) -> None:
    before = cloud.state.describe_state()["enis"]
    assert refusal(lambda: cloud.create(**fields)) == Refusal("UnsupportedParameter", 400)
    assert cloud.state.describe_state()["enis"] == before


def test_what_is_kept_is_shown(cloud: Bench) -> None:
    eni = cloud.create(
        source_dest_check=False, resource_group_id="rg-1", queue_number=4, delete_on_release=False
    ).network_interface_id
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.source_dest_check, seen.resource_group_id, seen.queue_number) == (False, "rg-1", 4)
    assert seen.delete_on_release is False
    cloud.modify(eni, source_dest_check=True, queue_number=8, delete_on_release=True)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.source_dest_check, seen.queue_number, seen.delete_on_release) == (True, 8, True)
    (plain,) = cloud.describe(network_interface_id=[cloud.create().network_interface_id])
    assert (plain.source_dest_check, plain.resource_group_id, plain.queue_number) == (True, "", None)


def test_enis_of_a_resource_group(cloud: Bench) -> None:
    eni = cloud.create(resource_group_id="rg-1").network_interface_id
    cloud.create(resource_group_id="rg-2")
    assert [e.network_interface_id for e in cloud.describe(resource_group_id="rg-1")] == [eni]


def test_queues_change_while_nothing_uses_them(cloud: Bench) -> None:
    """The reference: of an Available ENI, or on a Stopped instance, which the lab's never are."""
    assert refusal(lambda: cloud.create(queue_number=2049)) == Refusal("InvalidParameter", 400)
    eni = cloud.create(queue_number=2).network_interface_id
    cloud.attach(eni)
    wrong = Refusal("InvalidOperation.InvalidEniState", 400)
    assert refusal(lambda: cloud.modify(eni, queue_number=4)) == wrong
    cloud.modify(eni, source_dest_check=False)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.queue_number, seen.source_dest_check) == (2, False)


@pytest.mark.parametrize(
    ("action", "sent", "name"),
    [
        ("DescribeNetworkInterfaces", {"NetworkInterfaceId": "eni-1"}, "NetworkInterfaceId"),
        ("DescribeNetworkInterfaces", {"NetworkInterfaceId.1.Id": "eni-1"}, "NetworkInterfaceId"),
        ("DescribeNetworkInterfaces", {"NetworkInterfaceId.first": "eni-1"}, "NetworkInterfaceId"),
        ("DescribeNetworkInterfaces", {"NetworkInterfaceId.0": "eni-1"}, "NetworkInterfaceId"),
        ("DescribeNetworkInterfaces", {"InstanceId.1": "i-node1"}, "InstanceId"),
        ("DescribeNetworkInterfaces", {"Tag": "creator"}, "Tag"),
        ("DescribeNetworkInterfaces", {"Tag.1": "creator"}, "Tag"),
        ("DescribeNetworkInterfaces", {"Tag.1.TagKey": "creator"}, "Tag"),
        ("DescribeNetworkInterfaces", {"Tag.1.Value": "terway"}, "Tag"),
        ("DescribeNetworkInterfaces", {"MaxResults.1": "10"}, "MaxResults"),
        ("DeleteNetworkInterface", {"NetworkInterfaceId.1": "eni-1"}, "NetworkInterfaceId"),
        ("ModifyNetworkInterfaceAttribute", {"SecurityGroupId": "sg-other"}, "SecurityGroupId"),
        ("DescribeInstanceTypes", {"InstanceTypes": "ecs.g7.xlarge"}, "InstanceTypes"),
        ("DescribeInstances", {"InstanceIds.1": "i-node1"}, "InstanceIds"),
    ],
)
def test_a_parameter_of_the_wrong_form_is_refused_by_name(
    cloud: Bench, action: str, sent: dict[str, str], name: str
) -> None:
    """A list in place of one value, and the other way round: a filter that nobody reads finds everything."""
    fixed = {"NetworkInterfaceId": "eni-node1"} if action.startswith("Modify") else {}
    status, body, _ = acs3(cloud, action, fixed | sent).send(cloud)
    assert (status, body["Code"]) == (400, "InvalidParameter")
    assert f'"{name}"' in body["Message"]
