"""A security group rule in the words of Authorize, Revoke and Modify: flat, or as Permissions.N.

Documented: the names, which of them are kept, obeyed or refused here is in ``FIELDS``; a CIDR wins over a
group in one rule; NicType is intranet in a VPC; protocols are case-insensitive; policy accept and
priority 1 are the defaults. Refused by name: what makes a quintuple rule (SourcePortRange, the other
side's CIDR), prefix and port lists, groups of other accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network

from lab.cloud import errors, group_errors
from lab.cloud.actions.parameters import Parameters, has_zone, number
from lab.fabric.policy import peer_group
from lab.spec import RuleSpec

_PROTOCOLS = {"ALL": "ALL", "TCP": "TCP", "UDP": "UDP", "ICMP": "ICMP", "ICMPV6": "ICMPv6", "GRE": "GRE"}
_V4_ONLY = ("ICMP",)
_V6_ONLY = ("ICMPv6",)
_MOST_RULES = 100
_LONGEST_DESCRIPTION = 512
_COMMON = ("IpProtocol", "PortRange", "Policy", "Priority", "Description", "NicType")


def fields_of(direction: str) -> frozenset[str]:
    """What a rule of that direction may say."""
    side = _side(direction)
    return frozenset((*_COMMON, f"{side}CidrIp", f"Ipv6{side}CidrIp", f"{side}GroupId"))


def rules(p: Parameters, direction: str) -> list[RuleSpec]:
    """Those of the call, in either style; none if it names none."""
    flat = {name: p.text(name) for name in fields_of(direction) if p.text(name)}
    several = p.structs("Permissions")
    if flat and several:
        raise group_errors.mixed_styles()
    if len(several) > _MOST_RULES:
        raise errors.invalid_parameter("Permissions", f"at most {_MOST_RULES} in one call")
    for fields in several:
        for name in sorted(fields.keys() - fields_of(direction)):
            raise errors.unsupported_parameter(f"Permissions.N.{name}", "this rule")
    return [rule(fields, direction) for fields in (several or ([flat] if flat else []))]


def rule(fields: Mapping[str, str], direction: str) -> RuleSpec:
    if fields.get("NicType", "intranet") != "intranet":
        raise group_errors.nic_type_unsupported(fields["NicType"])
    if "IpProtocol" not in fields:
        raise errors.missing_parameter("IpProtocol")
    protocol = _PROTOCOLS.get(fields["IpProtocol"].upper())
    if protocol is None:
        raise group_errors.protocol_unknown(fields["IpProtocol"])
    policy = fields.get("Policy", "accept").capitalize()
    if policy not in ("Accept", "Drop"):
        raise group_errors.policy_malformed(fields["Policy"])
    if len(fields.get("Description", "")) > _LONGEST_DESCRIPTION:
        raise group_errors.description_malformed()
    return RuleSpec(
        direction=direction,
        policy=policy,
        protocol=protocol,
        ports=_ports(protocol, fields.get("PortRange", "")),
        peer=_peer(fields, _side(direction), protocol),
        priority=_priority(fields.get("Priority", "1")),
        description=fields.get("Description", ""),
    )


def words(rule: RuleSpec) -> dict[str, str]:
    """The fields that say what ``rule`` says: its peer's depends on the direction and on what it is."""
    side = _side(rule.direction)
    if "/" not in rule.peer:
        peer = f"{side}GroupId"
    else:
        peer = f"Ipv6{side}CidrIp" if ":" in rule.peer else f"{side}CidrIp"
    return {
        "IpProtocol": rule.protocol,
        "PortRange": f"{rule.ports[0]}/{rule.ports[1]}",
        "Policy": rule.policy,
        "Priority": str(rule.priority),
        "Description": rule.description,
        peer: rule.peer,
    }


def _side(direction: str) -> str:
    return "Source" if direction == "ingress" else "Dest"


def _priority(text: str) -> int:
    found = number(text)
    if found is None or not 1 <= found <= 100:
        raise group_errors.priority_unsupported(text)
    return found


def _ports(protocol: str, text: str) -> tuple[int, int]:
    """Of TCP and UDP 1 to 65535, of all others -1/-1, which is what they have without saying so."""
    if protocol not in ("TCP", "UDP"):
        if text not in ("", "-1/-1"):
            raise group_errors.ports_do_not_match(text)
        return (-1, -1)
    if not text:
        raise group_errors.ports_missing()
    first, last = (number(end) for end in text.partition("/")[::2])
    if first is None or last is None or not 1 <= first <= last <= 65535:
        raise group_errors.ports_malformed(text)
    return first, last


def _peer(fields: Mapping[str, str], side: str, protocol: str) -> str:
    v4, v6, group = (
        fields.get(name, "") for name in (f"{side}CidrIp", f"Ipv6{side}CidrIp", f"{side}GroupId")
    )
    if v4 and v6:
        raise group_errors.both_families(side)
    if v4:
        if protocol in _V6_ONLY:
            raise group_errors.protocol_without_v4()
        try:
            return str(IPv4Network(v4, strict=False))
        except ValueError:
            raise group_errors.cidr_malformed(f"{side}CidrIp", v4) from None
    if v6:
        if protocol in _V4_ONLY:
            raise group_errors.protocol_without_v6()
        if has_zone(v6):
            raise group_errors.cidr_malformed(f"Ipv6{side}CidrIp", v6)
        try:
            return str(IPv6Network(v6, strict=False))
        except ValueError:
            raise group_errors.cidr_malformed(f"Ipv6{side}CidrIp", v6) from None
    if not group:
        raise group_errors.missing_peer(side)
    if peer_group(group) is None:  # what is a network is no group's id
        raise group_errors.peer_group_not_found(side, group)
    return group
