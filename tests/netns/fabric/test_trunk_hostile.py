"""Tagged frames that no node may send: dropped with their reason, counted at the device they came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datapath.ebpf.libbpf import Direction
from tests.netns.fabric import frames as f
from tests.netns.fabric import trunk as t
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, SERVICE, A, B, Net, unused
from tests.netns.fabric.trunk import FIRST, SECOND

QINQ = 0x88A8


@pytest.fixture
def trunk(net: Net) -> Net:
    net.reset(t.trunk_view())
    return net


def plain(source: str = "", *, mac: str = MAC[A]) -> bytes:
    sent = f.ip(source or t.ADDRESS[FIRST, 4], ADDRESS[B, 4], f.udp(unused(), 53))
    return f.ether_ip(GATEWAY, mac, sent)


@pytest.mark.parametrize("vlan", [1, 6, 8, 4093, 4095])
def test_a_vlan_that_no_member_has(trunk: Net, vlan: int) -> None:
    trunk.expect(A, t.tagged(vlan, plain()), "vlan")


@pytest.mark.parametrize("priority", [0, 1, 7])
def test_a_priority_without_vlan(trunk: Net, priority: int) -> None:
    """VLAN 0: of the device itself by 802.1Q; a VPC has no use for it, whoever's address is in it."""
    for source in (ADDRESS[A, 4], t.ADDRESS[FIRST, 4]):
        trunk.expect(A, t.tagged(priority << 13, plain(source)), "vlan")


@pytest.mark.parametrize("outer", [f.VLAN, QINQ])
@pytest.mark.parametrize("inner", [f.VLAN, QINQ])
def test_two_tags(trunk: Net, outer: int, inner: int) -> None:
    known, other = t.VLAN[FIRST], t.VLAN[SECOND]
    for first, second in ((known, known), (known, other), (known, 0), (0, known), (99, known)):
        twice = t.tagged(first, t.tagged(second, plain(), protocol=inner), protocol=outer)
        trunk.expect(A, twice, "vlan")


def test_three_tags(trunk: Net) -> None:
    vlan = t.VLAN[FIRST]
    trunk.expect(A, t.tagged(vlan, t.tagged(vlan, t.tagged(vlan, plain()))), "vlan")


def test_a_tag_of_the_provider_kind(trunk: Net) -> None:
    trunk.expect(A, t.tagged(t.VLAN[FIRST], plain(), protocol=QINQ), "vlan")


def test_a_tag_beside_the_frame_and_one_in_it(trunk: Net, tmp_path: Path) -> None:
    with t.hooked(trunk, t.compiled(t.VLAN[FIRST], tmp_path), {Direction.EGRESS: "push"}):
        trunk.expect(A, t.tagged(t.VLAN[FIRST], plain()), "vlan")


def test_an_eni_that_is_no_trunk(trunk: Net) -> None:
    """Also with the VLAN and the addresses of a member on another device."""
    for source in (ADDRESS[B, 4], t.ADDRESS[FIRST, 4]):
        trunk.expect(B, t.tagged(t.VLAN[FIRST], plain(source, mac=MAC[B])), "vlan")


def test_what_is_no_eni(trunk: Net) -> None:
    trunk.expect(SERVICE, t.tagged(t.VLAN[FIRST], plain(ADDRESS[SERVICE, 4], mac=MAC[SERVICE])), "vlan")


def test_a_question_to_the_link_with_a_wrong_tag(trunk: Net) -> None:
    asked = f.arp(1, (MAC[A], t.ADDRESS[FIRST, 4]), ("00:00:00:00:00:00", ADDRESS[B, 4]))
    question = f.ether(f.BROADCAST, MAC[A], f.ARP, asked)
    trunk.expect(A, t.tagged(99, question), "vlan")
    trunk.expect(A, t.tagged(0, question), "vlan")


def test_the_trunks_own_is_not_reached_by_a_members_tag(trunk: Net) -> None:
    """The device's own address with a member's tag, and a member's address without: neither is believed."""
    before = trunk.fabric.counters(FIRST)["src_addr"]
    trunk.stations[FIRST] = trunk.stations[A]
    try:
        trunk.expect(FIRST, t.tagged(t.VLAN[FIRST], plain(ADDRESS[A, 4])), "src_addr")
    finally:
        del trunk.stations[FIRST]
    assert trunk.fabric.counters(FIRST)["src_addr"] == before + 1
    trunk.expect(A, plain(t.ADDRESS[FIRST, 4]), "src_addr")


def test_a_foreign_mac_with_a_known_tag(trunk: Net) -> None:
    trunk.stations[FIRST] = trunk.stations[A]
    try:
        trunk.expect(FIRST, t.tagged(t.VLAN[FIRST], plain(mac=MAC[B])), "src_mac")
    finally:
        del trunk.stations[FIRST]


def test_a_trunk_that_lost_its_last_member_is_an_eni_like_others(net: Net) -> None:
    net.reset(t.trunk_view())
    base = t.trunk_view()
    net.reset(replace(base, ports=tuple(p for p in base.ports if not p.trunk)))
    net.expect(A, t.tagged(t.VLAN[FIRST], plain()), "vlan")
    own = plain(ADDRESS[A, 4])
    assert net.deliver(A, B, own)[14:] == own[14:]
