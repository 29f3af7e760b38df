"""OpenAPI answers into values. The fields are those of the ECS (2014-05-26) and VPC (2016-04-28) reference.

Every function takes the answer's body under the wire's names and raises ValueError with the name of the
field that is missing or not as expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from control.model.cloud import Eni, EniStatus, EniType, InstanceLimits, VSwitch
from control.model.ids import EniId, InstanceId, Mac, SecurityGroupId, VSwitchId

Body = Mapping[str, object]


def eni(body: Body) -> Eni:
    """Of CreateNetworkInterface, or one NetworkInterfaceSet of DescribeNetworkInterfaces."""
    primary = IPv4Address(_text(body, "PrivateIpAddress"))
    others = (
        IPv4Address(_text(item, "PrivateIpAddress"))
        for item in _objects(body, "PrivateIpSets", "PrivateIpSet")
    )
    return Eni(
        EniId(_text(body, "NetworkInterfaceId")),
        Mac(_text(body, "MacAddress").lower()),
        VSwitchId(_text(body, "VSwitchId")),
        primary,
        (primary, *(address for address in others if address != primary)),
        tuple(IPv6Address(_text(item, "Ipv6Address")) for item in _objects(body, "Ipv6Sets", "Ipv6Set")),
        _status(_optional(body, "Status")),
        _type(_optional(body, "Type")),
        InstanceId(_optional(body, "InstanceId")) or None,
        tuple(SecurityGroupId(group) for group in _texts(body, "SecurityGroupIds", "SecurityGroupId")),
        tuple(
            (_optional(tag, "TagKey"), _optional(tag, "TagValue")) for tag in _objects(body, "Tags", "Tag")
        ),
    )


def enis(body: Body) -> tuple[tuple[Eni, ...], str]:
    """One page of DescribeNetworkInterfaces and the next page's token, "" at the end."""
    items = _objects(body, "NetworkInterfaceSets", "NetworkInterfaceSet")
    return tuple(eni(item) for item in items), _optional(body, "NextToken")


def instance_limits(body: Body, instance_type: str) -> InstanceLimits | None:
    """Of DescribeInstanceTypes; None if the answer does not hold the type."""
    for item in _objects(body, "InstanceTypes", "InstanceType"):
        if _optional(item, "InstanceTypeId") == instance_type:
            enis_most = _number(item, "EniQuantity")
            return InstanceLimits(
                instance_type,
                enis_most,
                _number(item, "EniPrivateIpAddressQuantity"),
                _number(item, "EniIpv6AddressQuantity", default=0),
                _number(item, "EniTotalQuantity", default=enis_most),
                item.get("EniTrunkSupported") is True,
            )
    return None


def vswitches(body: Body) -> tuple[VSwitch, ...]:
    return tuple(
        VSwitch(
            VSwitchId(_text(item, "VSwitchId")),
            _text(item, "ZoneId"),
            IPv4Network(_text(item, "CidrBlock")),
            _number(item, "AvailableIpAddressCount"),
            IPv6Network(cidr_v6) if (cidr_v6 := _optional(item, "Ipv6CidrBlock")) else None,
        )
        for item in _objects(body, "VSwitches", "VSwitch")
    )


def assigned_v4(body: Body) -> tuple[IPv4Address, ...]:
    sets = _object(body, "AssignedPrivateIpAddressesSet")
    return tuple(IPv4Address(address) for address in _texts(sets, "PrivateIpSet", "PrivateIpAddress"))


def assigned_v6(body: Body) -> tuple[IPv6Address, ...]:
    return tuple(IPv6Address(address) for address in _texts(body, "Ipv6Sets", "Ipv6Address"))


def _status(word: str) -> EniStatus:
    try:
        return EniStatus(word)
    except ValueError:
        return EniStatus.OTHER


def _type(word: str) -> EniType:
    try:
        return EniType(word)
    except ValueError:
        return EniType.SECONDARY


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}")
    return value


def _optional(body: Body, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _number(body: Body, name: str, *, default: int | None = None) -> int:
    value = body.get(name, default)
    if not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}")
    return value


def _object(body: Body, name: str) -> Body:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _list(body: Body, outer: str, inner: str) -> list[object]:
    """The cloud wraps each list in an object, which it leaves out when the list is empty."""
    value = _object(body, outer).get(inner)
    return value if isinstance(value, list) else []


def _objects(body: Body, outer: str, inner: str) -> list[Body]:
    return [item for item in _list(body, outer, inner) if isinstance(item, dict)]


def _texts(body: Body, outer: str, inner: str) -> list[str]:
    return [item for item in _list(body, outer, inner) if isinstance(item, str)]
