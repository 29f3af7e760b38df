"""The life of a secondary ENI: Create-, Attach-, Detach-, Delete- and ModifyNetworkInterface(Attribute)."""

from __future__ import annotations

from lab.cloud import errors
from lab.cloud.actions import prefixes, tags
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.asks import exclusive
from lab.cloud.actions.eni_answers import eni_answer
from lab.cloud.actions.parameters import Parameters
from lab.cloud.interfaces import EniChange, NewEni, Place
from lab.cloud.model import EniType

_MOST_SECONDARY = 49
_MOST_IPV6 = 10
_MOST_GROUPS = 10
_MOST_QUEUES = 2048
_LAST_CARD = 99
_CREATABLE = (EniType.SECONDARY, EniType.TRUNK)


def create(call: ActionCall) -> Answer:
    p = call.parameters
    vswitch_id = p.required("VSwitchId")
    if p.text("NetworkInterfaceTrafficMode", "Standard") != "Standard":
        raise errors.unsupported_parameter("NetworkInterfaceTrafficMode", "CreateNetworkInterface")
    ipv4 = exclusive(
        "SecondaryPrivateIpAddressCount",
        p.integer("SecondaryPrivateIpAddressCount", low=1, high=_MOST_SECONDARY),
        p.ipv4_list("PrivateIpAddress"),
    )
    ipv6 = exclusive(
        "Ipv6AddressCount",
        p.integer("Ipv6AddressCount", low=1, high=_MOST_IPV6),
        p.ipv6_list("Ipv6Address"),
    )
    blocks = prefixes.asked(p, 4), prefixes.asked(p, 6)
    prefixes.refuse_mixture(blocks[0], ipv4.total)
    prefixes.refuse_mixture(blocks[1], ipv6.total)
    eni = call.state.interfaces.create(
        NewEni(
            vswitch_id=vswitch_id,
            groups=_groups(p),
            primary_ip=p.ipv4("PrimaryIpAddress"),
            ipv4=ipv4,
            ipv6=ipv6,
            prefixes=blocks,
            eni_type=_type(p),
            name=p.text("NetworkInterfaceName"),
            description=p.text("Description"),
            tags=tags.of_a_new_resource(p),
            delete_on_release=p.boolean("DeleteOnRelease") is not False,
            source_dest_check=p.boolean("SourceDestCheck"),
            resource_group_id=p.text("ResourceGroupId"),
            queue_number=_queues(p),
        )
    )
    return eni_answer(eni, call.state.spec.vpc_id)


def attach(call: ActionCall) -> Answer:
    p = call.parameters
    place = Place(
        instance_id=p.required("InstanceId"),
        trunk_id=p.text("TrunkNetworkInstanceId"),
        network_card=p.integer("NetworkCardIndex", low=0, high=_LAST_CARD),
    )
    call.state.interfaces.attach(p.required("NetworkInterfaceId"), place)
    return {}


def detach(call: ActionCall) -> Answer:
    p = call.parameters
    place = Place(instance_id=p.required("InstanceId"), trunk_id=p.text("TrunkNetworkInstanceId"))
    call.state.interfaces.detach(p.required("NetworkInterfaceId"), place)
    return {}


def delete(call: ActionCall) -> Answer:
    call.state.interfaces.delete(call.parameters.required("NetworkInterfaceId"))
    return {}


def modify(call: ActionCall) -> Answer:
    p = call.parameters
    change = EniChange(
        name=p.optional("NetworkInterfaceName"),
        description=p.optional("Description"),
        groups=_several(p, "SecurityGroupId") or None,
        delete_on_release=p.boolean("DeleteOnRelease"),
        source_dest_check=p.boolean("SourceDestCheck"),
        queue_number=_queues(p),
    )
    call.state.interfaces.modify(p.required("NetworkInterfaceId"), change)
    return {}


def _groups(p: Parameters) -> tuple[str, ...]:
    one, several = p.text("SecurityGroupId"), _several(p, "SecurityGroupIds")
    if one and several:
        raise errors.invalid_parameter("SecurityGroupIds", "SecurityGroupId is given too")
    if not one and not several:
        raise errors.missing_parameter("SecurityGroupId")
    return several or (one,)


def _several(p: Parameters, name: str) -> tuple[str, ...]:
    """Each once, as an ENI is in a group or is not."""
    found = tuple(dict.fromkeys(p.listing(name)))
    if len(found) > _MOST_GROUPS:
        raise errors.invalid_parameter(name, f"an ENI joins at most {_MOST_GROUPS} groups")
    return found


def _queues(p: Parameters) -> int | None:
    return p.integer("QueueNumber", low=1, high=_MOST_QUEUES)


def _type(p: Parameters) -> EniType:
    wanted = p.text("InstanceType", EniType.SECONDARY)
    for kind in _CREATABLE:
        if wanted == kind:
            return kind
    raise errors.invalid_parameter("InstanceType", f"{wanted!r} is none of Secondary and Trunk")


_PLACE = frozenset({"NetworkInterfaceId", "InstanceId", "TrunkNetworkInstanceId"})
_KEPT = frozenset(
    {"NetworkInterfaceName", "Description", "DeleteOnRelease", "SourceDestCheck", "QueueNumber"}
)
_NEW = frozenset(
    {
        "VSwitchId",
        "SecurityGroupId",
        "SecurityGroupIds",
        "InstanceType",
        "ResourceGroupId",
        "Tag",
        "NetworkInterfaceTrafficMode",
        "PrimaryIpAddress",
        "PrivateIpAddress",
        "SecondaryPrivateIpAddressCount",
        "Ipv6Address",
        "Ipv6AddressCount",
        "Ipv4Prefix",
        "Ipv4PrefixCount",
        "Ipv6Prefix",
        "Ipv6PrefixCount",
    }
)

ACTIONS = (
    Action("CreateNetworkInterface", create, writes=True, takes=_NEW | _KEPT),
    Action("AttachNetworkInterface", attach, writes=True, takes=_PLACE | {"NetworkCardIndex"}),
    Action("DetachNetworkInterface", detach, writes=True, takes=_PLACE),
    Action("DeleteNetworkInterface", delete, writes=True, takes=frozenset({"NetworkInterfaceId"})),
    Action(
        "ModifyNetworkInterfaceAttribute",
        modify,
        writes=True,
        takes=_KEPT | {"NetworkInterfaceId", "SecurityGroupId"},
    ),
)
