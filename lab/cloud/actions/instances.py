"""DescribeInstanceTypes, DescribeInstances and DescribeInstanceAttribute."""

from __future__ import annotations

from lab.cloud import errors
from lab.cloud.actions import paging, tags
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.eni_answers import timestamp
from lab.cloud.instance_types import INSTANCE_TYPES, InstanceType
from lab.cloud.model import Instance
from lab.cloud.views import Snapshot

_MOST_RESULTS = 100
_MOST_TYPES = 10


def describe_types(call: ActionCall) -> Answer:
    p = call.parameters
    names, family = p.listing("InstanceTypes"), p.text("InstanceTypeFamily")
    if len(names) > _MOST_TYPES:
        raise errors.invalid_parameter("InstanceTypes", f"at most {_MOST_TYPES} in one call")
    found = [
        kind
        for kind in INSTANCE_TYPES.values()
        if (not names or kind.name in names) and family in ("", kind.family)
    ]
    page, token = paging.by_token(found, p, key=lambda k: k.name, most=_MOST_RESULTS, usual=_MOST_RESULTS)
    return {"InstanceTypes": {"InstanceType": [_type(kind) for kind in page]}, "NextToken": token}


def describe_instances(call: ActionCall) -> Answer:
    p, seen = call.parameters, call.state.described
    ids, asked = p.json_list("InstanceIds"), tags.wanted(p)
    found = [
        instance
        for instance in seen.instances()
        if (ids is None or instance.instance_id in ids)
        and p.text("VSwitchId") in ("", instance.vswitch_id)
        and p.text("ZoneId") in ("", instance.zone)
        and p.text("InstanceName") in ("", instance.name)
        and p.text("VpcId") in ("", call.state.spec.vpc_id)
        and tags.match(instance.tags, asked)
    ]
    page, which = paging.either(found, p, key=lambda i: i.instance_id, most=_MOST_RESULTS)
    return {
        **which,
        "Instances": {"Instance": [_instance(call, instance, seen) for instance in page]},
    }


def describe_instance(call: ActionCall) -> Answer:
    instance_id = call.parameters.required("InstanceId")
    instance = call.state.described.instance(instance_id)
    if instance is None:
        raise errors.instance_not_found(instance_id)
    return _instance(call, instance, call.state.described)


def _type(kind: InstanceType) -> Answer:
    return {
        "InstanceTypeId": kind.name,
        "InstanceTypeFamily": kind.family,
        "CpuCoreCount": kind.cores,
        "CpuArchitecture": "X86",
        "MemorySize": kind.memory_gib,
        "EniQuantity": kind.eni,
        "EniPrivateIpAddressQuantity": kind.ipv4_per_eni,
        "EniIpv6AddressQuantity": kind.ipv6_per_eni,
        "EniTotalQuantity": kind.eni_total,
        "EniTrunkSupported": kind.trunk,
        "EriQuantity": kind.eri,
        "InstanceFamilyLevel": "EnterpriseLevel",
        "GPUAmount": 0,
    }


def _instance(call: ActionCall, instance: Instance, seen: Snapshot) -> Answer:
    enis = seen.attached_to(instance.instance_id)
    kind, spec = INSTANCE_TYPES[instance.instance_type], call.state.spec
    return {
        "InstanceId": instance.instance_id,
        "InstanceName": instance.name,
        "HostName": instance.name,
        "InstanceType": kind.name,
        "InstanceTypeFamily": kind.family,
        "Status": "Running",
        "RegionId": spec.region,
        "ZoneId": instance.zone,
        "Cpu": kind.cores,
        "Memory": int(kind.memory_gib * 1024),
        "InstanceNetworkType": "vpc",
        "CreationTime": timestamp(instance.created),
        "SecurityGroupIds": {"SecurityGroupId": list(instance.groups)},
        "Tags": tags.answer(instance.tags),
        "VpcAttributes": {
            "VpcId": spec.vpc_id,
            "VSwitchId": instance.vswitch_id,
            "PrivateIpAddress": {"IpAddress": [str(eni.primary_ip) for eni in enis[:1]]},
        },
        "NetworkInterfaces": {
            "NetworkInterface": [
                {
                    "NetworkInterfaceId": eni.eni_id,
                    "MacAddress": eni.mac,
                    "PrimaryIpAddress": str(eni.primary_ip),
                    "Type": str(eni.shown_type),
                }
                for eni in enis
            ]
        },
    }


ACTIONS = (
    Action(
        "DescribeInstanceTypes",
        describe_types,
        takes=frozenset({"InstanceTypes", "InstanceTypeFamily"}) | paging.BY_TOKEN,
    ),
    Action(
        "DescribeInstances",
        describe_instances,
        takes=frozenset({"InstanceIds", "VSwitchId", "ZoneId", "InstanceName", "VpcId", "Tag"})
        | paging.BY_TOKEN
        | paging.BY_NUMBER,
    ),
    Action("DescribeInstanceAttribute", describe_instance, takes=frozenset({"InstanceId"})),
)
