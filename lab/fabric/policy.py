"""Security groups as the fabric decides by them: pure, from groups to one ordered list per direction.

Members of a normal group with ``inner_accept`` reach each other, whatever the rules say. Then the rules
of all groups of an ENI are merged. Priority 1 comes first, and at one priority Drop before Accept, so the
first rule that matches decides. Behind them stand the defaults: nothing else comes in, and of a normal
group everything else may go out, of an enterprise group nothing.

Documented: the words of ModifySecurityGroupPolicy (inner access Accept is before custom rules, Drop
behind them), of AuthorizeSecurityGroup (priorities), and of the page on security group rules (defaults of
both kinds).
Inferred: inner access of one common group is enough, whatever rules the other groups of the two ENIs
have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from lab.fabric.errors import ViewError
from lab.spec import RuleSpec, SecurityGroupSpec

_PROTOCOLS = {"ALL": None, "TCP": 6, "UDP": 17, "ICMP": 1, "ICMPV6": 58, "GRE": 47}
_POLICIES = {"Accept": True, "Drop": False}
_DIRECTIONS = ("ingress", "egress")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class FlowRule:
    """One rule, decoded. ``peer`` is a network, the id of a group, or None for anyone.

    ``protocol`` None is every protocol. The ports, both ends included, are asked of protocols that have some.
    """

    peer: IPv4Network | IPv6Network | str | None
    accept: bool
    protocol: int | None = None
    ports: tuple[int, int] = (0, _LAST_PORT)


@dataclass(frozen=True, slots=True)
class Policy:
    """What one set of groups says: the first match decides, no match is a no."""

    ingress: tuple[FlowRule, ...]
    egress: tuple[FlowRule, ...]


def compile_policy(names: Iterable[str], groups: Mapping[str, SecurityGroupSpec]) -> Policy:
    """The policy of an ENI in the groups ``names``. Raises ViewError for what is no valid group or rule."""
    own = [_find(name, groups) for name in sorted(set(names))]
    inner = tuple(
        FlowRule(group.group_id, accept=True)
        for group in own
        if group.inner_accept and not group.is_enterprise
    )
    out = () if any(group.is_enterprise for group in own) else (FlowRule(None, accept=True),)
    return Policy(
        ingress=(*inner, *_merged(own, "ingress")),
        egress=(*inner, *_merged(own, "egress"), *out),
    )


def referenced_groups(groups: Iterable[SecurityGroupSpec]) -> set[str]:
    """The ids of all groups and of all groups that their rules name as peer."""
    found: set[str] = set()
    for group in groups:
        found.add(group.group_id)
        found.update(peer for rule in group.rules if isinstance(peer := _peer(rule.peer), str))
    return found


def _find(name: str, groups: Mapping[str, SecurityGroupSpec]) -> SecurityGroupSpec:
    try:
        return groups[name]
    except KeyError:
        raise ViewError(f"a port is in security group {name!r}, which the view does not have") from None


def _merged(groups: Iterable[SecurityGroupSpec], direction: str) -> tuple[FlowRule, ...]:
    specs = [(group, rule) for group in groups for rule in group.rules]
    decoded = [
        ((rule.priority, _decode(group, rule).accept), _decode(group, rule))
        for group, rule in specs
        if _valid_direction(group, rule) == direction
    ]
    return tuple(rule for _, rule in sorted(decoded, key=lambda each: each[0]))


def _decode(group: SecurityGroupSpec, rule: RuleSpec) -> FlowRule:
    protocol, accept = rule.protocol.upper(), _POLICIES.get(rule.policy)
    if protocol not in _PROTOCOLS or accept is None:
        raise _invalid(group, rule, f"protocol is one of {[*_PROTOCOLS]}, policy one of {[*_POLICIES]}")
    first, last = rule.ports
    if (first, last) == (-1, -1):
        first, last = 0, _LAST_PORT
    if not 0 <= first <= last <= _LAST_PORT:
        raise _invalid(group, rule, "ports are (first, last) within 0 to 65535, or (-1, -1)")
    return FlowRule(_peer(rule.peer), accept=accept, protocol=_PROTOCOLS[protocol], ports=(first, last))


def _valid_direction(group: SecurityGroupSpec, rule: RuleSpec) -> str:
    if rule.direction not in _DIRECTIONS:
        raise _invalid(group, rule, f"direction is one of {_DIRECTIONS}")
    return rule.direction


def _invalid(group: SecurityGroupSpec, rule: RuleSpec, allowed: str) -> ViewError:
    return ViewError(f"security group {group.group_id!r}: {allowed}; the rule says {rule}")


def peer_group(peer: str) -> str | None:
    """The id of the group that a rule's peer is, None for a network."""
    found = _peer(peer)
    return found if isinstance(found, str) else None


def _peer(text: str) -> IPv4Network | IPv6Network | str:
    """What is no network is the id of a group: ids begin with letters."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return text
