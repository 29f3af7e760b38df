"""Each kind of object: what is written can be read back, and means what its text says."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from socket import AF_INET, AF_INET6

import pytest

from datapath.netlink import address, link, neighbour, route, rule, wire
from datapath.netlink.address import Assigned
from datapath.netlink.link import End, Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Message, Request

ROUTES = [
    Route(ip_network("10.0.0.5/32"), 7, 512),
    Route(ip_network("0.0.0.0/0"), 7, 1003, ip_address("10.0.0.253"), onlink=True),
    Route(ip_network("2001:db8::5/128"), 7, 512),
    Route(ip_network("::/0"), 7, 254, ip_address("fe80::1")),
]
RULES = [
    Rule(AF_INET, 512, 512),
    Rule(AF_INET6, 512, 512),
    Rule(AF_INET, 2048, 1003, source=ip_network("10.0.0.5/32")),
    Rule(AF_INET6, 2048, 1003, source=ip_network("2001:db8::5/128")),
    Rule(AF_INET, 512, 254, destination=ip_network("10.0.0.5/32")),
]


def answer(request: Request) -> Message:
    """The kernel describes an object in the layout it was given in."""
    return Message(request.kind, 0, 1, request.body)


@pytest.mark.parametrize("one", ROUTES, ids=str)
def test_route(one: Route) -> None:
    found = route.decode(answer(route.add(one)))
    assert found == one
    assert found.onlink == one.onlink


@pytest.mark.parametrize("one", RULES, ids=str)
def test_rule(one: Rule) -> None:
    assert rule.decode(answer(rule.add(one))) == one


def test_rule_with_another_selector_is_not_plain() -> None:
    made = rule.add(RULES[2])
    marked = replace(made, body=made.body + wire.attribute_u32(10, 7))
    assert not rule.decode(answer(marked)).plain
    suppressing = replace(made, body=made.body + wire.attribute_u32(14, 0))
    assert not rule.decode(answer(suppressing)).plain
    indifferent = replace(made, body=made.body + wire.attribute_u32(14, 0xFFFFFFFF))
    assert rule.decode(answer(indifferent)).plain


def test_deleting_minds_no_origin() -> None:
    """systemd-networkd, upstream and we mark rules and routes differently; the object is the same."""
    assert route.decode(answer(route.delete(ROUTES[0]))) == ROUTES[0]
    assert route.delete(ROUTES[0]).body[5] == 0
    assert rule.FRA_PROTOCOL not in wire.attributes(rule.delete(RULES[0]).body, 12)


@pytest.mark.parametrize("text", ["10.0.0.5", "2001:db8::5"])
def test_address_and_neighbour(text: str) -> None:
    assigned = Assigned(ip_address(text), ip_address(text).max_prefixlen, 7)
    assert address.decode(answer(address.add(assigned))) == assigned
    near = Neighbour(ip_address(text), "02:00:00:00:00:01", 7)
    assert neighbour.decode(answer(neighbour.add(near))) == near


def test_learned_neighbour_is_none() -> None:
    made = neighbour.add(Neighbour(ip_address("10.0.0.5"), "02:00:00:00:00:01", 7))
    reachable = made.body[:8] + b"\x02\0" + made.body[10:]
    assert neighbour.decode(answer(replace(made, body=reachable))) is None


def test_veth_says_both_ends() -> None:
    here, there = End("cali0", "02:00:00:00:00:01"), End("eth0", "02:00:00:00:00:02")
    made = link.create_veth(here, there, netns=9, mtu=1400)
    outer = link.decode(answer(made))
    assert (outer.name, outer.mac, outer.mtu, outer.kind) == ("cali0", here.mac, 1400, "veth")
    info = wire.attributes(wire.attributes(made.body, 16)[link.IFLA_LINKINFO])
    peer = wire.attributes(info[link.IFLA_INFO_DATA])[link.VETH_INFO_PEER]
    inner = link.decode(Message(made.kind, 0, 1, peer))
    assert (inner.name, inner.mac, inner.mtu, inner.up) == ("eth0", there.mac, 1400, False)
    assert wire.u32(wire.attributes(peer, 16)[link.IFLA_NET_NS_FD]) == 9


def test_change_touches_only_what_is_given() -> None:
    assert link.decode(answer(link.change(7, up=True))).up
    nothing = link.change(7, alias="a").body
    assert nothing[8:16] == bytes(8)
    assert wire.attributes(nothing, 16).keys() == {link.IFLA_IFALIAS}


@pytest.mark.parametrize(
    ("kind", "lower", "elsewhere", "stacked"),
    [
        ("", 0, False, False),
        ("veth", 3, True, False),
        ("veth", 3, False, False),
        ("ipvlan", 2, False, True),
        ("vlan", 2, True, True),
        ("macsec", 2, False, True),
        ("bridge", 0, False, True),
    ],
)
def test_a_stacked_link_does_not_own_its_mac(kind: str, lower: int, elsewhere: bool, stacked: bool) -> None:
    found = Link(9, "x", "", 1500, True, True, kind=kind, lower=lower, lower_elsewhere=elsewhere)
    assert found.stacked is stacked


def test_text_names_the_link() -> None:
    assert str(replace(ROUTES[0], device="cali0")) == "10.0.0.5/32 dev cali0 table 512"
    assert str(RULES[2]) == "2048: from 10.0.0.5/32 lookup 1003"
    assert str(RULES[1]) == "512: from all lookup 512 (IPv6)"
