"""Addresses of an ENI: Assign- and UnassignPrivateIpAddresses, Assign- and UnassignIpv6Addresses."""

from __future__ import annotations

from collections.abc import Sequence

from lab.cloud import errors
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.asks import exclusive
from lab.cloud.model import Address

_MOST_IPV4 = 49
_MOST_IPV6 = 10
_MOST_UNASSIGNED = 50


def assign_ipv4(call: ActionCall) -> Answer:
    p = call.parameters
    eni_id = p.required("NetworkInterfaceId")
    ask = exclusive(
        "SecondaryPrivateIpAddressCount",
        p.integer("SecondaryPrivateIpAddressCount", low=1, high=_MOST_IPV4),
        p.ipv4_list("PrivateIpAddress"),
    )
    if not ask.total:
        raise errors.missing_parameter("SecondaryPrivateIpAddressCount")
    given = call.state.assignments.assign_ipv4(eni_id, ask.at_most(call.partial))
    return {
        "AssignedPrivateIpAddressesSet": {
            "NetworkInterfaceId": eni_id,
            "PrivateIpSet": {"PrivateIpAddress": _text(given)},
            "Ipv4PrefixSet": {"Ipv4Prefixes": []},
        }
    }


def assign_ipv6(call: ActionCall) -> Answer:
    p = call.parameters
    eni_id = p.required("NetworkInterfaceId")
    ask = exclusive(
        "Ipv6AddressCount",
        p.integer("Ipv6AddressCount", low=1, high=_MOST_IPV6),
        p.ipv6_list("Ipv6Address"),
    )
    if not ask.total:
        raise errors.missing_parameter("Ipv6AddressCount")
    given = call.state.assignments.assign_ipv6(eni_id, ask.at_most(call.partial))
    return {
        "NetworkInterfaceId": eni_id,
        "Ipv6Sets": {"Ipv6Address": _text(given)},
        "Ipv6PrefixSets": {"Ipv6Prefix": []},
    }


def unassign_ipv4(call: ActionCall) -> Answer:
    return _unassign(call, "PrivateIpAddress", call.parameters.ipv4_list("PrivateIpAddress"))


def unassign_ipv6(call: ActionCall) -> Answer:
    return _unassign(call, "Ipv6Address", call.parameters.ipv6_list("Ipv6Address"))


def _unassign(call: ActionCall, name: str, addresses: Sequence[Address]) -> Answer:
    eni_id = call.parameters.required("NetworkInterfaceId")
    if not addresses:
        raise errors.missing_parameter(name)
    if len(addresses) > _MOST_UNASSIGNED:
        raise errors.invalid_parameter(name, f"at most {_MOST_UNASSIGNED} in one call")
    call.state.assignments.unassign(eni_id, addresses)
    return {}


def _text(addresses: Sequence[Address]) -> list[str]:
    return [str(address) for address in addresses]


_IPV4 = frozenset({"NetworkInterfaceId", "PrivateIpAddress"})
_IPV6 = frozenset({"NetworkInterfaceId", "Ipv6Address"})

ACTIONS = (
    Action(
        "AssignPrivateIpAddresses",
        assign_ipv4,
        writes=True,
        takes=_IPV4 | {"SecondaryPrivateIpAddressCount"},
    ),
    Action("UnassignPrivateIpAddresses", unassign_ipv4, writes=True, takes=_IPV4),
    Action("AssignIpv6Addresses", assign_ipv6, writes=True, takes=_IPV6 | {"Ipv6AddressCount"}),
    Action("UnassignIpv6Addresses", unassign_ipv6, writes=True, takes=_IPV6),
)
