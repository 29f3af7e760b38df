"""Frames to and from blocks of addresses: an ENI's prefixes, and what route entries lead to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.fabric.errors import ViewError
from lab.fabric.view import FabricView, Route
from lab.spec import SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import (
    ADDRESS,
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
    network,
    unused,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
PREFIX = {4: "10.0.1.32/28", 6: "2001:db8:10:1:5::/80"}
IN_PREFIX = {4: ("10.0.1.32", "10.0.1.47"), 6: ("2001:db8:10:1:5::", "2001:db8:10:1:5:ffff:ffff:ffff")}
BESIDE_PREFIX = {4: "10.0.1.48", 6: "2001:db8:10:1:6::"}
INSIDE = {4: "10.0.8.0/24", 6: "2001:db8:10:8::/64"}
BEYOND = {4: "172.20.3.0/24", 6: "fd00:20:3::/64"}
IN_INSIDE = {4: "10.0.8.7", 6: "2001:db8:10:8::7"}
IN_BEYOND = {4: "172.20.3.9", 6: "fd00:20:3::9"}
ALL = {4: "0.0.0.0/0", 6: "::/0"}
WORLD = {4: "198.51.100.7", 6: "2001:db8:51::7"}
ROUTED = pytest.mark.parametrize(
    ("cidrs", "pods"), [(INSIDE, IN_INSIDE), (BEYOND, IN_BEYOND)], ids=["in the VPC", "beyond it"]
)


def given(prefixes: dict[int, str], to: str) -> FabricView:
    base = base_view()
    mine = frozenset(network(text) for text in prefixes.values())
    return replace(base, ports=tuple(replace(p, prefixes=mine) if p.port_id == to else p for p in base.ports))


def routed(*routes: tuple[str, str]) -> FabricView:
    """The base view with entries (destination, next hop)."""
    return replace(base_view(), routes=tuple(Route(network(cidr), hop) for cidr, hop in routes))


def frame(sender: str, source: str, destination: str) -> bytes:
    return f.ether_ip(GATEWAY, MAC[sender], f.ip(source, destination, f.udp(unused(), 4000)))


def arrives(net: Net, sender: str, receiver: str, source: str, destination: str) -> None:
    sent = frame(sender, source, destination)
    got = net.deliver(sender, receiver, sent)
    assert got[14:] == sent[14:]
    assert got[:6] == f.mac(MAC[receiver])


@FAMILIES
def test_every_address_of_a_prefix_is_the_enis(net: Net, family: int) -> None:
    net.reset(given(PREFIX, B))
    for address in IN_PREFIX[family]:
        arrives(net, A, B, ADDRESS[A, family], address)
        arrives(net, B, A, address, ADDRESS[A, family])
        net.expect(A, frame(A, address, ADDRESS[B, family]), "src_addr")
    net.expect(A, frame(A, ADDRESS[A, family], BESIDE_PREFIX[family]), "dst_addr")
    net.expect(B, frame(B, BESIDE_PREFIX[family], ADDRESS[A, family]), "src_addr")


@FAMILIES
def test_a_prefix_that_is_taken_back_is_nobodys(net: Net, family: int) -> None:
    net.reset(given(PREFIX, B))
    address = IN_PREFIX[family][0]
    arrives(net, A, B, ADDRESS[A, family], address)
    net.reset()
    net.expect(A, frame(A, ADDRESS[A, family], address), "dst_addr")
    net.expect(B, frame(B, address, ADDRESS[A, family]), "src_addr")


def test_a_prefix_is_on_link(net: Net) -> None:
    """The gateway answers for its addresses, as for any of the vSwitch."""
    net.reset(given(PREFIX, B))
    asked = f.ether(
        f.BROADCAST, MAC[A], f.ARP, f.arp(1, (MAC[A], ADDRESS[A, 4]), ("00:00:00:00:00:00", IN_PREFIX[4][1]))
    )
    assert net.deliver(A, A, asked)[6:12] == f.mac(GATEWAY)


@pytest.mark.parametrize("address", [IN_PREFIX[4][1], IN_BEYOND[4]], ids=["prefix", "entry"])
def test_who_has_a_block_asks_in_its_name_and_nobody_else_does(net: Net, address: str) -> None:
    """A node's kernel asks for the gateway with the address of the pod whose packet waits."""
    view = given(PREFIX, B)
    net.reset(replace(view, routes=(Route(network(BEYOND[4]), B),)))

    def question(sender: str) -> bytes:
        body = f.arp(1, (MAC[sender], address), ("00:00:00:00:00:00", "10.0.1.253"))
        return f.ether(f.BROADCAST, MAC[sender], f.ARP, body)

    assert net.deliver(B, B, question(B))[6:12] == f.mac(GATEWAY)
    net.expect(A, question(A), "claim_address")


@ROUTED
@FAMILIES
def test_an_entry_leads_to_its_next_hop(
    net: Net, family: int, cidrs: dict[int, str], pods: dict[int, str]
) -> None:
    net.reset(routed((cidrs[family], B)))
    pod = pods[family]
    arrives(net, A, B, ADDRESS[A, family], pod)
    arrives(net, B, A, pod, ADDRESS[A, family])
    net.expect(A, frame(A, pod, ADDRESS[B, family]), "src_addr")
    net.expect(OUTSIDE, frame(OUTSIDE, pod, ADDRESS[A, family]), "src_addr")


@ROUTED
@FAMILIES
def test_an_entry_that_goes_takes_its_flows_along(
    net: Net, family: int, cidrs: dict[int, str], pods: dict[int, str]
) -> None:
    net.reset(routed((cidrs[family], B)))
    there = f.ether_ip(GATEWAY, MAC[B], f.ip(pods[family], ADDRESS[A, family], f.udp(unused(), 4001)))
    assert net.deliver(B, A, there)[14:] == there[14:]
    net.reset()
    net.expect(B, there, "src_addr")


@FAMILIES
def test_a_prefix_is_in_the_groups_of_its_eni_and_an_entry_is_not(net: Net, family: int) -> None:
    """A group as a rule's peer, and inner access, mean the members' own addresses."""
    friends = SecurityGroupSpec("friends", inner_accept=True)
    view = grouped_view(friends, a=["friends"], b=["friends"])
    mine = frozenset(network(text) for text in PREFIX.values())
    ports = tuple(replace(p, prefixes=mine) if p.port_id == B else p for p in view.ports)
    net.reset(replace(view, ports=ports, routes=(Route(network(BEYOND[family]), B),)))
    arrives(net, B, A, IN_PREFIX[family][1], ADDRESS[A, family])
    arrives(net, A, B, ADDRESS[A, family], IN_PREFIX[family][0])
    net.expect(B, frame(B, IN_BEYOND[family], ADDRESS[A, family]), "group")
    arrives(net, A, B, ADDRESS[A, family], IN_BEYOND[family])


@FAMILIES
def test_a_flow_is_judged_again_where_an_entry_leads_now(net: Net, family: int) -> None:
    view = grouped_view(SecurityGroupSpec("closed", inner_accept=False), c=["closed"])
    there = frame(A, ADDRESS[A, family], IN_BEYOND[family])
    net.reset(replace(view, routes=(Route(network(BEYOND[family]), B),)))
    assert net.deliver(A, B, there)[14:] == there[14:]
    net.reset(replace(view, routes=(Route(network(BEYOND[family]), C),)))
    net.expect(A, there, "group")


@FAMILIES
def test_a_next_hop_that_is_away_is_a_black_hole(net: Net, family: int) -> None:
    view = routed((BEYOND[family], C), (ALL[family], C))
    net.reset(replace(view, ports=tuple(p for p in view.ports if p.port_id != C)))
    net.expect(A, frame(A, ADDRESS[A, family], IN_BEYOND[family]), "dst_addr")
    net.expect(A, frame(A, ADDRESS[A, family], WORLD[family]), "dst_addr")


@FAMILIES
def test_the_longest_entry_decides(net: Net, family: int) -> None:
    short = {4: "172.20.0.0/16", 6: "fd00:20::/32"}
    net.reset(routed((short[family], C), (BEYOND[family], B)))
    arrives(net, A, B, ADDRESS[A, family], IN_BEYOND[family])
    elsewhere = {4: "172.20.4.1", 6: "fd00:20:4::1"}
    arrives(net, A, C, ADDRESS[A, family], elsewhere[family])


@FAMILIES
def test_an_entry_around_the_vpc_takes_what_no_vswitch_holds(net: Net, family: int) -> None:
    around = {4: "10.0.0.0/8", 6: "2001:db8::/32"}
    unheld = {4: "10.0.77.1", 6: "2001:db8:10:77::1"}
    unassigned = {4: "10.0.1.99", 6: "2001:db8:10:1::99"}
    net.reset(routed((around[family], C)))
    arrives(net, A, C, ADDRESS[A, family], unheld[family])
    arrives(net, A, B, ADDRESS[A, family], ADDRESS[B, family])
    net.expect(A, frame(A, ADDRESS[A, family], unassigned[family]), "dst_addr")


@FAMILIES
def test_an_entry_for_everything_else_leads_out_by_its_next_hop(net: Net, family: int) -> None:
    net.reset(routed((ALL[family], C)))
    arrives(net, A, C, ADDRESS[A, family], WORLD[family])
    arrives(net, C, OUTSIDE, ADDRESS[C, family], WORLD[family])
    arrives(net, OUTSIDE, C, WORLD[family], ADDRESS[C, family])
    arrives(net, C, A, WORLD[family], ADDRESS[A, family])
    net.expect(B, frame(B, WORLD[family], ADDRESS[A, family]), "src_addr")
    arrives(net, A, B, ADDRESS[A, family], ADDRESS[B, family])


def test_an_entry_of_ipv6_leads_no_ipv4(net: Net) -> None:
    """In the tables IPv4 lies inside ``::/0``: its way out stays where it was, and its sources too."""
    net.reset(routed(("::/0", C)))
    arrives(net, A, OUTSIDE, ADDRESS[A, 4], WORLD[4])
    arrives(net, OUTSIDE, A, WORLD[4], ADDRESS[A, 4])
    net.expect(C, frame(C, WORLD[4], ADDRESS[A, 4]), "src_addr")
    net.reset(routed(("::/0", C), (ALL[4], B)))
    arrives(net, A, B, ADDRESS[A, 4], WORLD[4])
    with pytest.raises(ViewError, match="IPv4 in IPv6"):
        net.fabric.apply(routed(("::ffff:10.0.1.0/120", C)))


def test_a_pod_of_an_entry_reaches_the_services(net: Net) -> None:
    net.reset(routed((BEYOND[4], B)))
    arrives(net, B, SERVICE, IN_BEYOND[4], ADDRESS[SERVICE, 4])
    arrives(net, SERVICE, B, ADDRESS[SERVICE, 4], IN_BEYOND[4])


def test_what_stays_on_a_link_is_routed_nowhere(net: Net) -> None:
    net.reset(routed((ALL[4], B), (ALL[6], B)))
    net.expect(A, frame(A, ADDRESS[A, 4], "169.254.1.1"), "dst_addr")
    net.expect(A, frame(A, ADDRESS[A, 6], "fe80::1"), "dst_addr")
    net.expect(B, frame(B, "169.254.1.1", ADDRESS[A, 4]), "src_addr")


def test_views_that_contradict_themselves_change_nothing(net: Net) -> None:
    with pytest.raises(ViewError, match="one destination"):
        net.fabric.apply(routed((BEYOND[4], A), (BEYOND[4], B)))
    twice = given(PREFIX, A)
    with pytest.raises(ViewError, match="given to ports"):
        net.fabric.apply(
            replace(twice, ports=tuple(replace(p, prefixes=twice.ports[0].prefixes) for p in twice.ports[:2]))
        )
