"""Security groups on the wire: state, priority, peers, fragments, and ICMP errors about allowed flows."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import partial

import pytest

from lab.fabric.errors import ViewError
from lab.spec import RuleSpec, SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import (
    ADDRESS,
    ANYWHERE,
    GATEWAY,
    MAC,
    OUTSIDE,
    SERVICE,
    A,
    B,
    C,
    Net,
    base_view,
    grouped_view,
    unused,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
CLOSED = SecurityGroupSpec("closed", inner_accept=False)


@dataclass(frozen=True, slots=True)
class Talk:
    """Two ends of a flow in one family. ``there`` and ``back`` make frames of its two directions."""

    family: int
    source: str = A
    destination: str = B

    def there(self, payload: f.L4) -> bytes:
        return self._frame(self.source, self.destination, payload)

    def back(self, payload: f.L4) -> bytes:
        return self._frame(self.destination, self.source, payload)

    def echo(self, identifier: int, *, reply: bool = False) -> f.L4:
        return f.echo(identifier, reply=reply, v6=self.family == 6)

    def _frame(self, source: str, destination: str, payload: f.L4) -> bytes:
        packet = f.ip(ADDRESS[source, self.family], ADDRESS[destination, self.family], payload)
        return f.ether_ip(GATEWAY, MAC[source], packet)


def group(*rules: RuleSpec, name: str = "tested", inner_accept: bool = False) -> SecurityGroupSpec:
    return SecurityGroupSpec(name, rules, inner_accept)


def anyone(
    protocol: str = "ALL", *, policy: str = "Accept", ports: tuple[int, int] = (-1, -1), priority: int = 1
) -> list[RuleSpec]:
    """The same ingress rule for both families."""
    return [RuleSpec("ingress", policy, protocol, ports, peer, priority) for peer in ANYWHERE]


def passes(net: Net, talk: Talk, frame: bytes, *, back: bool = False) -> None:
    source, destination = (talk.destination, talk.source) if back else (talk.source, talk.destination)
    assert net.deliver(source, destination, frame)[14:] == frame[14:]


@FAMILIES
def test_a_basic_group_lets_nothing_in_and_everything_out(net: Net, family: int) -> None:
    net.reset(grouped_view(CLOSED, b=["closed"]))
    talk = Talk(family)
    for payload in (f.udp(unused(), 53), f.tcp(unused(), 80, flags=2), talk.echo(unused())):
        net.expect(A, talk.there(payload), "group")
    passes(net, talk, talk.back(f.udp(unused(), 53)), back=True)


@FAMILIES
def test_a_reply_comes_in_where_nothing_else_does(net: Net, family: int) -> None:
    net.reset(grouped_view(CLOSED, a=["closed"]))
    talk = Talk(family)
    ours, theirs = unused(), unused()
    for make in (f.udp, partial(f.tcp, flags=2)):
        net.expect(B, talk.back(make(theirs, ours)), "group")
        passes(net, talk, talk.there(make(ours, theirs)))
        passes(net, talk, talk.back(make(theirs, ours)), back=True)
        net.expect(B, talk.back(make(theirs + 1, ours)), "group")


@FAMILIES
def test_an_echo_is_let_in_by_its_identifier_and_only_as_a_reply(net: Net, family: int) -> None:
    net.reset(grouped_view(CLOSED, a=["closed"]))
    talk, identifier = Talk(family), unused()
    net.expect(B, talk.back(talk.echo(identifier, reply=True)), "group")
    passes(net, talk, talk.there(talk.echo(identifier)))
    passes(net, talk, talk.back(talk.echo(identifier, reply=True)), back=True)
    net.expect(B, talk.back(talk.echo(identifier)), "group")
    net.expect(B, talk.back(talk.echo(unused(), reply=True)), "group")


@FAMILIES
def test_protocol_and_ports(net: Net, family: int) -> None:
    net.reset(grouped_view(group(*anyone("TCP", ports=(80, 82))), b=["tested"]))
    talk = Talk(family)
    for port, accepted in ((79, False), (80, True), (82, True), (83, False)):
        frame = talk.there(f.tcp(unused(), port, flags=2))
        if accepted:
            passes(net, talk, frame)
        else:
            net.expect(A, frame, "group")
    net.expect(A, talk.there(f.udp(unused(), 80)), "group")
    net.expect(A, talk.there(talk.echo(unused())), "group")


@FAMILIES
def test_ports_are_found_behind_options(net: Net, family: int) -> None:
    net.reset(grouped_view(group(*anyone("UDP", ports=(53, 53))), b=["tested"]))
    options = b"\x01" * 8 if family == 4 else f.extension(f.UDP)
    for port, accepted in ((53, True), (54, False)):
        packet = f.ip(ADDRESS[A, family], ADDRESS[B, family], f.udp(unused(), port), options=options)
        frame = f.ether_ip(GATEWAY, MAC[A], packet)
        if accepted:
            passes(net, Talk(family), frame)
        else:
            net.expect(A, frame, "group")


@FAMILIES
def test_icmp_of_either_family(net: Net, family: int) -> None:
    name = {4: "ICMP", 6: "ICMPv6"}[family]
    net.reset(grouped_view(group(*anyone(name)), b=["tested"]))
    talk = Talk(family)
    passes(net, talk, talk.there(talk.echo(unused())))
    net.expect(A, talk.there(f.udp(unused(), 53)), "group")


def test_gre(net: Net) -> None:
    net.reset(grouped_view(group(*anyone("GRE")), b=["tested"]))
    talk = Talk(4)
    passes(net, talk, talk.there(f.L4(47, struct.pack(">HH", 0, f.IPV4) + bytes(20))))
    net.expect(A, talk.there(f.L4(4, bytes(20))), "group")


@FAMILIES
def test_the_lower_priority_number_decides_and_drop_wins_a_tie(net: Net, family: int) -> None:
    rules = [
        *anyone("UDP", ports=(1, 1), priority=1),
        *anyone("UDP", ports=(1, 1), policy="Drop", priority=2),
        *anyone("UDP", ports=(2, 2), policy="Drop", priority=1),
        *anyone("UDP", ports=(2, 2), priority=2),
        *anyone("UDP", ports=(3, 3), priority=5),
        *anyone("UDP", ports=(3, 3), policy="Drop", priority=5),
    ]
    net.reset(grouped_view(group(*rules), b=["tested"]))
    talk = Talk(family)
    passes(net, talk, talk.there(f.udp(unused(), 1)))
    net.expect(A, talk.there(f.udp(unused(), 2)), "group")
    net.expect(A, talk.there(f.udp(unused(), 3)), "group")


@FAMILIES
def test_several_groups_are_merged_by_priority(net: Net, family: int) -> None:
    first = group(*anyone("UDP", policy="Drop", ports=(1, 1), priority=10), name="first")
    second = group(
        *anyone("UDP", ports=(1, 1), priority=20),
        *anyone("UDP", ports=(2, 2), priority=20),
        name="second",
    )
    net.reset(grouped_view(first, second, b=["first", "second"]))
    talk = Talk(family)
    net.expect(A, talk.there(f.udp(unused(), 1)), "group")
    passes(net, talk, talk.there(f.udp(unused(), 2)))


@FAMILIES
def test_egress_is_judged_where_it_leaves(net: Net, family: int) -> None:
    rules = [RuleSpec("egress", "Drop", "UDP", (53, 53), peer) for peer in ANYWHERE]
    net.reset(grouped_view(group(*rules), a=["tested"]))
    talk = Talk(family)
    net.expect(A, talk.there(f.udp(unused(), 53)), "group")
    passes(net, talk, talk.there(f.udp(unused(), 54)))
    abroad = Talk(family, A, OUTSIDE)
    net.expect(A, abroad.there(f.udp(unused(), 53)), "group")
    passes(net, abroad, abroad.there(f.udp(unused(), 54)))


@FAMILIES
def test_a_network_as_peer(net: Net, family: int) -> None:
    peer = {4: "10.0.2.0/24", 6: "2001:db8:10:2::/64"}[family]
    net.reset(grouped_view(group(RuleSpec("ingress", peer=peer)), b=["tested"]))
    net.expect(A, Talk(family).there(f.udp(unused(), 53)), "group")
    near = Talk(family, C, B)
    passes(net, near, near.there(f.udp(unused(), 53)))


def test_a_rule_of_one_family_says_nothing_about_the_other(net: Net) -> None:
    for family, peer in ((4, "::/0"), (6, "0.0.0.0/0")):
        net.reset(grouped_view(group(RuleSpec("ingress", peer=peer)), b=["tested"]))
        net.expect(A, Talk(family).there(f.udp(unused(), 53)), "group")


@FAMILIES
def test_a_group_as_peer(net: Net, family: int) -> None:
    target = group(RuleSpec("ingress", peer="friends"))
    friends = SecurityGroupSpec("friends")
    net.reset(grouped_view(target, friends, b=["tested"], c=["open", "friends"]))
    net.expect(A, Talk(family).there(f.udp(unused(), 53)), "group")
    near = Talk(family, C, B)
    passes(net, near, near.there(f.udp(unused(), 53)))
    abroad = Talk(family, OUTSIDE, B)
    net.expect(OUTSIDE, abroad.there(f.udp(unused(), 53)), "group")


@FAMILIES
def test_members_of_a_group_reach_each_other_whatever_the_rules_say(net: Net, family: int) -> None:
    """Documented with ModifySecurityGroupPolicy: Accept is before custom rules, Drop behind them."""
    talk = Talk(family)
    inner = group(inner_accept=True)
    net.reset(grouped_view(inner, a=["tested"], b=["tested"]))
    passes(net, talk, talk.there(f.udp(unused(), 53)))
    outer = Talk(family, C, B)
    net.expect(C, outer.there(f.udp(unused(), 53)), "group")
    shut = [RuleSpec("egress", "Drop", peer=peer) for peer in ANYWHERE]
    told = group(*anyone(policy="Drop"), *shut, inner_accept=True)
    net.reset(grouped_view(told, a=["tested"], b=["tested"]))
    passes(net, talk, talk.there(f.udp(unused(), 53)))
    net.expect(A, Talk(family, A, C).there(f.udp(unused(), 53)), "group")
    net.expect(C, outer.there(f.udp(unused(), 53)), "group")


@FAMILIES
def test_inner_access_that_is_taken_away_ends_a_flow(net: Net, family: int) -> None:
    talk, ours = Talk(family), unused()
    there = talk.there(f.udp(ours, 53))
    net.reset(grouped_view(group(inner_accept=True), a=["tested"], b=["tested"]))
    passes(net, talk, there)
    net.reset(grouped_view(group(), a=["tested"], b=["tested"]))
    net.expect(A, there, "group")
    some = group(*anyone("UDP", ports=(53, 53)))
    net.reset(grouped_view(some, a=["tested"], b=["tested"]))
    passes(net, talk, there)


@FAMILIES
def test_an_enterprise_group_lets_out_what_a_rule_lets_out(net: Net, family: int) -> None:
    rules = [RuleSpec("egress", "Accept", "UDP", (53, 53), peer) for peer in ANYWHERE]
    strict = SecurityGroupSpec("tested", tuple(rules), kind="enterprise")
    net.reset(grouped_view(strict, a=["tested"], c=["tested"]))
    talk, ours = Talk(family), unused()
    net.expect(A, talk.there(f.udp(ours, 54)), "group")
    passes(net, talk, talk.there(f.udp(ours, 53)))
    passes(net, talk, talk.back(f.udp(53, ours)), back=True)
    net.expect(A, Talk(family, A, C).there(f.udp(unused(), 53)), "group")


def test_services_are_beyond_all_groups(net: Net) -> None:
    rules = [RuleSpec("egress", "Drop", peer=peer) for peer in ANYWHERE]
    net.reset(grouped_view(group(*rules), a=["tested"]))
    talk = Talk(4, A, SERVICE)
    net.expect(A, Talk(4).there(f.udp(unused(), 53)), "group")
    passes(net, talk, talk.there(f.tcp(unused(), 80, flags=2)))
    passes(net, talk, talk.back(f.tcp(80, unused(), flags=2)), back=True)


@FAMILIES
def test_a_change_of_rules_ends_what_they_no_longer_allow(net: Net, family: int) -> None:
    talk, ours = Talk(family), unused()
    allowed = group(*anyone("UDP", ports=(53, 53)))
    net.reset(grouped_view(allowed, b=["tested"]))
    passes(net, talk, talk.there(f.udp(ours, 53)))
    more = group(*anyone("UDP", ports=(53, 53)), *anyone("TCP"))
    net.reset(grouped_view(more, b=["tested"]))
    passes(net, talk, talk.back(f.udp(53, ours)), back=True)
    net.reset(grouped_view(CLOSED, b=["closed"]))
    net.expect(A, talk.there(f.udp(ours, 53)), "group")


@FAMILIES
def test_a_flow_goes_on_in_both_directions_over_a_change(net: Net, family: int) -> None:
    """A's group lets nothing in: the reply passes only as part of the flow, judged anew as A began it."""
    talk, ours = Talk(family), unused()
    net.reset(grouped_view(CLOSED, a=["closed"]))
    passes(net, talk, talk.there(f.udp(ours, 53)))
    net.reset(grouped_view(CLOSED, group(*anyone(), name="other"), a=["closed"], c=["other"]))
    passes(net, talk, talk.back(f.udp(53, ours)), back=True)
    passes(net, talk, talk.there(f.udp(ours, 53)))


@FAMILIES
def test_fragments_follow_their_first(net: Net, family: int) -> None:
    net.reset(grouped_view(group(*anyone("UDP", ports=(53, 53))), b=["tested"]))
    talk = Talk(family)
    for port, accepted in ((53, True), (54, False)):
        first, later = fragmented(talk, f.udp(unused(), port, bytes(2000)))
        net.expect(A, later, "fragment")
        if accepted:
            passes(net, talk, first)
            passes(net, talk, later)
        else:
            net.expect(A, first, "group")
            net.expect(A, later, "group")


@FAMILIES
def test_a_reply_in_fragments_comes_in(net: Net, family: int) -> None:
    net.reset(grouped_view(CLOSED, a=["closed"]))
    talk, ours = Talk(family), unused()
    passes(net, talk, talk.there(f.udp(ours, 53)))
    first, later = fragmented(Talk(family, B, A), f.udp(53, ours, bytes(2000)))
    for frame in (first, later):
        passes(net, talk, frame, back=True)


def fragmented(talk: Talk, payload: f.L4) -> list[bytes]:
    ends = ADDRESS[talk.source, talk.family], ADDRESS[talk.destination, talk.family]
    packets = f.fragments(*ends, payload, identification=unused(), cut=1400)
    return [f.ether_ip(GATEWAY, MAC[talk.source], packet) for packet in packets]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (RuleSpec("sideways"), "direction"),
        (RuleSpec("ingress", protocol="SCTP"), "protocol"),
        (RuleSpec("ingress", policy="Maybe"), "policy"),
        (RuleSpec("ingress", ports=(5, 4)), "ports"),
    ],
)
def test_a_view_with_a_bad_rule_changes_nothing(net: Net, wrong: RuleSpec, named: str) -> None:
    with pytest.raises(ViewError, match=named):
        net.fabric.apply(grouped_view(group(wrong), b=["tested"]))
    talk = Talk(4)
    passes(net, talk, talk.there(f.udp(unused(), 53)))


def test_a_view_with_one_address_at_two_ports_changes_nothing(net: Net) -> None:
    base = base_view()
    taken = {p.port_id: p.addresses for p in base.ports}[B]
    ports = [replace(p, addresses=taken) if p.port_id == C else p for p in base.ports]
    with pytest.raises(ViewError, match="assigned to ports eni-b and eni-c"):
        net.fabric.apply(replace(base, ports=tuple(ports)))
    talk = Talk(4)
    passes(net, talk, talk.there(f.udp(unused(), 53)))


def test_a_region_full_of_groups_full_of_rules_has_room(net: Net) -> None:
    """As many as the quotas of an account give: one who fills them stops nobody else's changes."""
    rules = tuple(RuleSpec("ingress", peer=f"10.0.{n}.0/24") for n in range(200))
    groups = tuple(SecurityGroupSpec(f"full-{n}", rules) for n in range(100))
    base = grouped_view(*groups)
    spare = next(p for p in base.ports if p.port_id == A)
    more = [
        replace(
            spare,
            port_id=f"full-{n}",
            device="",
            mac=f"00:16:3e:00:02:{n:02x}",
            addresses=frozenset(),
            groups=frozenset({f"full-{n}"}),
        )
        for n in range(100)
    ]
    net.fabric.apply(replace(base, ports=(*base.ports, *more)))
    talk = Talk(4)
    passes(net, talk, talk.there(f.udp(unused(), 53)))
