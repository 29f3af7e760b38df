"""DescribeInstances and DescribeInstanceAttribute."""

from __future__ import annotations

from lab.cloud import errors
from lab.cloud.actions import paging, tags
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.eni_answers import timestamp
from lab.cloud.instance_types import INSTANCE_TYPES
from lab.cloud.model import Instance
from lab.cloud.views import Snapshot

_MOST_RESULTS = 100


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
        "DescribeInstances",
        describe_instances,
        takes=frozenset({"InstanceIds", "VSwitchId", "ZoneId", "InstanceName", "VpcId", "Tag"})
        | paging.BY_TOKEN
        | paging.BY_NUMBER,
    ),
    Action("DescribeInstanceAttribute", describe_instance, takes=frozenset({"InstanceId"})),
)
