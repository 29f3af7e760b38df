"""An ENI in the words of the API's answers."""

from __future__ import annotations

from datetime import UTC, datetime

from lab.cloud.actions.action import Answer
from lab.cloud.model import Eni, EniType

OWNER_ID = "1000000000000001"


def timestamp(at: float) -> str:
    """Lab time as the API writes it: UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def address_sets(eni: Eni) -> Answer:
    return {
        "PrivateIpSets": {
            "PrivateIpSet": [
                {"PrivateIpAddress": str(address), "Primary": address == eni.primary_ip}
                for address in eni.ipv4
            ]
        },
        "Ipv6Sets": {"Ipv6Set": [{"Ipv6Address": str(address)} for address in eni.ipv6]},
        "Ipv4PrefixSets": {"Ipv4PrefixSet": [{"Ipv4Prefix": str(p)} for p in eni.prefixes_of(4)]},
        "Ipv6PrefixSets": {"Ipv6PrefixSet": [{"Ipv6Prefix": str(p)} for p in eni.prefixes_of(6)]},
    }


def eni_answer(eni: Eni, vpc_id: str) -> Answer:
    """The fields that CreateNetworkInterface and both Describe actions share."""
    return {
        "NetworkInterfaceId": eni.eni_id,
        "NetworkInterfaceName": eni.name,
        "Description": eni.description,
        "Type": str(eni.shown_type),
        "Status": str(eni.status),
        "MacAddress": eni.mac,
        "VpcId": vpc_id,
        "VSwitchId": eni.vswitch_id,
        "ZoneId": eni.zone,
        "PrivateIpAddress": str(eni.primary_ip),
        "SecurityGroupIds": {"SecurityGroupId": list(eni.groups)},
        "Tags": {"Tag": [{"TagKey": key, "TagValue": value} for key, value in eni.tags]},
        "ResourceGroupId": eni.resource_group_id,
        "ServiceManaged": False,
        "SourceDestCheck": eni.source_dest_check,
        "OwnerId": OWNER_ID,
        **address_sets(eni),
    }


def described_eni(eni: Eni, vpc_id: str) -> Answer:
    """One NetworkInterfaceSet of DescribeNetworkInterfaces."""
    queues: Answer = {} if eni.queue_number is None else {"QueueNumber": eni.queue_number}
    return eni_answer(eni, vpc_id) | {
        "CreationTime": timestamp(eni.created),
        "InstanceId": eni.instance_id,
        "DeleteOnRelease": eni.delete_on_release,
        "NetworkInterfaceTrafficMode": "Standard",
        "Attachment": attachment(eni),
        **queues,
    }


def attachment(eni: Eni) -> Answer:
    """DeviceIndex is a member's VLAN id: upstream's controller hands it to the node as such.

    NetworkCardIndex is there if the attachment named it (reference of DescribeNetworkInterfaceAttribute).
    """
    if not eni.instance_id:
        return {}
    if eni.trunk_id:
        return {
            "InstanceId": eni.instance_id,
            "DeviceIndex": eni.vlan,
            "TrunkNetworkInterfaceId": eni.trunk_id,
        }
    return {
        "InstanceId": eni.instance_id,
        "DeviceIndex": 0 if eni.eni_type == EniType.PRIMARY else 1,
        **({} if eni.network_card is None else {"NetworkCardIndex": eni.network_card}),
    }
