"""DescribeNetworkInterfaces and DescribeNetworkInterfaceAttribute, on the lagging view."""

from __future__ import annotations

from collections.abc import Callable

from lab.cloud import errors
from lab.cloud.actions import paging, tags
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.eni_answers import attachment, described_eni
from lab.cloud.actions.parameters import Parameters
from lab.cloud.model import Eni
from lab.cloud.trunks import members_of

_MOST_RESULTS = 500
_MOST_IDS = 100

_EXACT: dict[str, Callable[[Eni], str]] = {
    "InstanceId": lambda eni: eni.instance_id,
    "VSwitchId": lambda eni: eni.vswitch_id,
    "Status": lambda eni: eni.status,
    "Type": lambda eni: eni.shown_type,
    "PrimaryIpAddress": lambda eni: str(eni.primary_ip),
    "NetworkInterfaceName": lambda eni: eni.name,
    "ResourceGroupId": lambda eni: eni.resource_group_id,
}


def describe_all(call: ActionCall) -> Answer:
    p, vpc_id = call.parameters, call.state.spec.vpc_id
    wanted = _filter(p, vpc_id)
    found = sorted((eni for eni in call.state.described.enis() if wanted(eni)), key=_order)
    page, which = paging.either(found, p, key=_order, most=_MOST_RESULTS)
    return {
        **which,
        "NetworkInterfaceSets": {"NetworkInterfaceSet": [described_eni(eni, vpc_id) for eni in page]},
    }


def describe_one(call: ActionCall) -> Answer:
    """An ENI that is gone is no error: the answer is empty, without NetworkInterfaceId.

    ``basic`` is what upstream asks for, on no page; ``attachment`` names a trunk ENI's members too.
    """
    wanted = call.parameters.text("Attribute", "basic")
    if wanted not in ("basic", "attachment"):
        raise errors.unsupported_parameter("Attribute", f"DescribeNetworkInterfaceAttribute, as {wanted!r},")
    eni = call.state.described.eni(call.parameters.required("NetworkInterfaceId"))
    if eni is None:
        return {}
    answer = described_eni(eni, call.state.spec.vpc_id)
    if wanted == "attachment":
        members = [member.eni_id for member in members_of(eni.eni_id, call.state.described.enis())]
        ids = {"MemberNetworkInterfaceIds": {"MemberNetworkInterfaceId": members}}
        return answer | {"Attachment": {**attachment(eni), **ids}}
    return answer


def _order(eni: Eni) -> str:
    return eni.eni_id


def _filter(p: Parameters, vpc_id: str) -> Callable[[Eni], bool]:
    ids, asked = p.listing("NetworkInterfaceId"), tags.wanted(p)
    if len(ids) > _MOST_IDS:
        raise errors.invalid_parameter("NetworkInterfaceId", f"at most {_MOST_IDS} in one call")
    addresses = frozenset((*p.ipv4_list("PrivateIpAddress"), *p.ipv6_list("Ipv6Address")))
    exact = [(read, p.text(name)) for name, read in _EXACT.items() if p.text(name)]
    group, other_vpc = p.text("SecurityGroupId"), p.text("VpcId") not in ("", vpc_id)

    def wanted(eni: Eni) -> bool:
        return (
            not other_vpc
            and (not ids or eni.eni_id in ids)
            and (not group or group in eni.groups)
            and (not addresses or not addresses.isdisjoint(eni.addresses))
            and all(read(eni) == value for read, value in exact)
            and tags.match(eni.tags, asked)
        )

    return wanted


_FILTERS = frozenset(
    {"NetworkInterfaceId", "PrivateIpAddress", "Ipv6Address", "SecurityGroupId", "VpcId", "Tag", *_EXACT}
)

ACTIONS = (
    Action("DescribeNetworkInterfaces", describe_all, takes=_FILTERS | paging.BY_TOKEN | paging.BY_NUMBER),
    Action(
        "DescribeNetworkInterfaceAttribute",
        describe_one,
        takes=frozenset({"NetworkInterfaceId", "Attribute"}),
    ),
)
