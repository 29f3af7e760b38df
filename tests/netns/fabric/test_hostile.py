"""An ENI that claims what is not its own: each frame is a fault with its reason, and nobody hears it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.netns.fabric import frames as f
from tests.netns.fabric.hostile import HONEST, HOSTILE, Hostile
from tests.netns.fabric.net import (
    ADDRESS,
    GATEWAY,
    MAC,
    UNASSIGNED,
    A,
    B,
    C,
    Net,
    base_view,
    changed,
    wait_for,
)
from tests.netns.fabric.talk import SUBNET_GATEWAY, arp, igmp, solicit


def test_names_are_of_one_frame_each() -> None:
    assert len({each.name for each in HOSTILE}) == len(HOSTILE) > 100


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda each: each.name)
def test_a_false_word_is_a_fault_and_reaches_nobody(net: Net, hostile: Hostile) -> None:
    net.expect(A, hostile.frame, hostile.reason)
    assert hostile.reason in net.fabric.drops(A)


@pytest.mark.parametrize("name", HONEST)
def test_what_a_node_says_of_itself_is_no_fault(net: Net, name: str) -> None:
    before = net.fabric.drops()
    net.expect(A, HONEST[name], "control")
    assert net.fabric.drops() == before


@pytest.mark.parametrize("to", [MAC[B], MAC[A]])
def test_an_honest_word_to_the_mac_of_one_goes_nowhere(net: Net, to: str) -> None:
    for name, frame in HONEST.items():
        net.expect(A, f.mac(to) + frame[6:], "dst_mac")
        assert name


def test_an_eni_asks_in_the_name_of_another_of_its_instance(net: Net) -> None:
    """As Linux does on a device without addresses. It may ask, and be a member, but not claim."""
    moved = [replace(p, owner=A, device="") if p.port_id == C else p for p in base_view().ports]
    asked = arp(1, ADDRESS[C, 4], SUBNET_GATEWAY[4])
    net.expect(A, asked, "claim_address")
    net.fabric.apply(replace(base_view(), ports=tuple(moved)))
    before = net.fabric.counters(A)
    net.stations[A].send(asked)
    assert net.stations[A].receive()[22:28] == f.mac(GATEWAY)
    net.stations[A].send(igmp(0x22, ADDRESS[C, 4]))
    for claim in (arp(2, ADDRESS[C, 4], ADDRESS[C, 4]), solicit(UNASSIGNED[6], source=ADDRESS[C, 6])):
        net.stations[A].send(claim)
    wanted = {"answered_arp": 1, "control": 1, "claim_address": 2}
    wait_for(lambda: changed(before, net.fabric.counters(A)) == wanted, f"{wanted} to be counted")


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda each: each.name)
def test_an_address_that_an_eni_lost_is_no_longer_its_own(net: Net, hostile: Hostile) -> None:
    """The same frames from an ENI without any address are no better."""
    bare = [replace(p, addresses=frozenset()) if p.port_id == A else p for p in base_view().ports]
    net.reset(replace(base_view(), ports=tuple(bare)))
    before = net.fabric.drops(A)
    net.stations[A].send(hostile.frame)
    wait_for(lambda: net.fabric.drops(A) != before, "a fault to be counted")
    for name in (A, B, C):
        assert net.stations[name].waiting() == []
