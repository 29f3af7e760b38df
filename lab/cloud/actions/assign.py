"""Addresses and prefixes of an ENI: Assign- and UnassignPrivateIpAddresses, and the same for IPv6."""

from __future__ import annotations

from collections.abc import Sequence

from lab.cloud import errors
from lab.cloud.actions import prefixes
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.asks import exclusive
from lab.cloud.model import Address, Network

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
    blocks = prefixes.asked(p, 4)
    prefixes.refuse_mixture(blocks, ask.total)
    if not ask.total and not blocks.total:
        raise errors.missing_parameter("SecondaryPrivateIpAddressCount")
    assignments, most = call.state.assignments, call.partial
    given = assignments.assign_ipv4(eni_id, ask.at_most(most)) if ask.total else ()
    whole = assignments.assign_prefixes(eni_id, blocks.at_most(most)) if blocks.total else ()
    return {
        "AssignedPrivateIpAddressesSet": {
            "NetworkInterfaceId": eni_id,
            "PrivateIpSet": {"PrivateIpAddress": _text(given)},
            "Ipv4PrefixSet": {"Ipv4Prefixes": prefixes.text(whole)},
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
    blocks = prefixes.asked(p, 6)
    prefixes.refuse_mixture(blocks, ask.total)
    if not ask.total and not blocks.total:
        raise errors.missing_parameter("Ipv6AddressCount")
    assignments, most = call.state.assignments, call.partial
    given = assignments.assign_ipv6(eni_id, ask.at_most(most)) if ask.total else ()
    whole = assignments.assign_prefixes(eni_id, blocks.at_most(most)) if blocks.total else ()
    return {
        "NetworkInterfaceId": eni_id,
        "Ipv6Sets": {"Ipv6Address": _text(given)},
        "Ipv6PrefixSets": {"Ipv6Prefix": prefixes.text(whole)},
    }


def unassign_ipv4(call: ActionCall) -> Answer:
    p = call.parameters
    return _unassign(call, "PrivateIpAddress", p.ipv4_list("PrivateIpAddress"), prefixes.listed(p, 4))


def unassign_ipv6(call: ActionCall) -> Answer:
    p = call.parameters
    return _unassign(call, "Ipv6Address", p.ipv6_list("Ipv6Address"), prefixes.listed(p, 6))


def _unassign(call: ActionCall, name: str, addresses: Sequence[Address], blocks: Sequence[Network]) -> Answer:
    """Both may be named in one call: it is all or nothing."""
    eni_id = call.parameters.required("NetworkInterfaceId")
    if not addresses and not blocks:
        raise errors.missing_parameter(name)
    if len(addresses) > _MOST_UNASSIGNED:
        raise errors.invalid_parameter(name, f"at most {_MOST_UNASSIGNED} in one call")
    call.state.assignments.unassign(eni_id, addresses, blocks)
    return {}


def _text(addresses: Sequence[Address]) -> list[str]:
    return [str(address) for address in addresses]


_IPV4 = frozenset({"NetworkInterfaceId", "PrivateIpAddress", "Ipv4Prefix"})
_IPV6 = frozenset({"NetworkInterfaceId", "Ipv6Address", "Ipv6Prefix"})

ACTIONS = (
    Action(
        "AssignPrivateIpAddresses",
        assign_ipv4,
        writes=True,
        takes=_IPV4 | {"SecondaryPrivateIpAddressCount", "Ipv4PrefixCount"},
    ),
    Action("UnassignPrivateIpAddresses", unassign_ipv4, writes=True, takes=_IPV4),
    Action(
        "AssignIpv6Addresses", assign_ipv6, writes=True, takes=_IPV6 | {"Ipv6AddressCount", "Ipv6PrefixCount"}
    ),
    Action("UnassignIpv6Addresses", unassign_ipv6, writes=True, takes=_IPV6),
)
