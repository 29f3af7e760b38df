"""ARP and neighbour discovery: who gets an answer, byte by byte, and what is only counted."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from tests.netns.fabric import frames as f
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, OUTSIDE, UNASSIGNED, A, B, C, Net

NOBODY = "00:00:00:00:00:00"
GATEWAY_LINK_LOCAL = "fe80::ecff:ffff:feff:ffff"
SUBNET_GATEWAY = {4: "10.0.1.253", 6: "2001:db8:10:1:ffff:ffff:ffff:fffd"}
OWN_LINK_LOCAL = "fe80::216:3eff:fe00:a"


def request(asker: str, sender: str, target: str) -> bytes:
    return f.ether(f.BROADCAST, MAC[asker], f.ARP, f.arp(1, (MAC[asker], sender), (NOBODY, target)))


def solicit(asker: str, sender: str, target: str) -> bytes:
    group = f.solicited_node(target)
    packet = f.solicitation(sender, group, target, source_mac=MAC[asker])
    return f.ether_ip(f.multicast_mac(group), MAC[asker], packet)


def advert(target: str, to: str) -> bytes:
    """The whole answer: router, solicited, override, and the gateway's MAC as target link-layer address."""
    rest = struct.pack(">I", 0xE0000000) + ip_address(target).packed + b"\x02\x01" + f.mac(GATEWAY)
    return f.ip(target, to, f.icmp(136, 0, rest, v6=True), hops=255)


@pytest.mark.parametrize(
    "target",
    [SUBNET_GATEWAY[4], ADDRESS[B, 4], UNASSIGNED[4], ADDRESS[C, 4]],
    ids=["gateway", "b", "free", "c"],
)
def test_arp_is_answered_by_the_gateway(net: Net, target: str) -> None:
    before = net.fabric.counters(A)
    answer = net.deliver(A, A, request(A, ADDRESS[A, 4], target))
    body = f.arp(2, (GATEWAY, target), (MAC[A], ADDRESS[A, 4]))
    assert answer == f.ether(MAC[A], GATEWAY, f.ARP, body)
    assert net.fabric.counters(A)["answered_arp"] == before["answered_arp"] + 1


def test_arp_straight_to_the_gateway_is_answered(net: Net) -> None:
    """So Linux asks again for a neighbour that it knows."""
    body = f.arp(1, (MAC[A], ADDRESS[A, 4]), (NOBODY, SUBNET_GATEWAY[4]))
    answer = net.deliver(A, A, f.ether(GATEWAY, MAC[A], f.ARP, body))
    assert (
        answer[12:22]
        == f.ether(MAC[A], GATEWAY, f.ARP, f.arp(2, (NOBODY, "0.0.0.0"), (NOBODY, "0.0.0.0")))[12:22]
    )


def test_the_outside_gets_an_answer_for_whatever_it_asks(net: Net) -> None:
    answer = net.deliver(OUTSIDE, OUTSIDE, request(OUTSIDE, ADDRESS[OUTSIDE, 4], "203.0.113.1"))
    assert answer[22:28] == f.mac(GATEWAY)


def test_arp_in_the_name_of_another_mac_drops(net: Net) -> None:
    body = f.arp(1, (MAC[B], ADDRESS[B, 4]), (NOBODY, SUBNET_GATEWAY[4]))
    net.expect(A, f.ether(f.BROADCAST, MAC[A], f.ARP, body), "src_mac")
    net.expect(
        A,
        f.ether(MAC[B], MAC[A], f.ARP, f.arp(1, (MAC[A], ADDRESS[A, 4]), (NOBODY, ADDRESS[B, 4]))),
        "dst_mac",
    )


@pytest.mark.parametrize(
    "target",
    [SUBNET_GATEWAY[6], ADDRESS[B, 6], UNASSIGNED[6], ADDRESS[C, 6], GATEWAY_LINK_LOCAL],
    ids=["gateway", "b", "free", "c", "link-local"],
)
def test_nd_is_answered_by_the_gateway(net: Net, target: str) -> None:
    before = net.fabric.counters(A)
    answer = net.deliver(A, A, solicit(A, ADDRESS[A, 6], target))
    assert answer == f.ether_ip(MAC[A], GATEWAY, advert(target, ADDRESS[A, 6]))
    assert net.fabric.counters(A)["answered_nd"] == before["answered_nd"] + 1


def test_nd_by_a_link_local_address_without_option_is_answered_in_full(net: Net) -> None:
    """A unicast solicitation may come without its option, so the answer is longer than the question."""
    asked = f.solicitation(OWN_LINK_LOCAL, SUBNET_GATEWAY[6], SUBNET_GATEWAY[6], source_mac=None)
    answer = net.deliver(A, A, f.ether_ip(GATEWAY, MAC[A], asked))
    assert answer == f.ether_ip(MAC[A], GATEWAY, advert(SUBNET_GATEWAY[6], OWN_LINK_LOCAL))


def test_a_solicitation_for_another_link_local_address_is_control(net: Net) -> None:
    net.expect(A, solicit(A, OWN_LINK_LOCAL, "fe80::1234"), "control")
