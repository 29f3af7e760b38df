"""Frames of a trunk ENI's members, which pass its device with a tag: on the wire, whole frames."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import addressof, create_string_buffer
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from datapath.ebpf.libbpf import Direction
from lab.fabric.errors import ViewError
from lab.spec import RuleSpec, SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric import trunk as t
from tests.netns.fabric.net import (
    ADDRESS,
    GATEWAY,
    MAC,
    OUTSIDE,
    SERVICE,
    A,
    B,
    Net,
    base_view,
    changed,
    unused,
)
from tests.netns.fabric.trunk import FIRST, SECOND

FAMILIES = pytest.mark.parametrize("family", [4, 6])
OWN_MAC = "00:16:3e:00:00:1f"


@pytest.fixture
def trunk(net: Net) -> Net:
    net.reset(t.trunk_view())
    return net


def packet(source: str, destination: str, *, length: int = 0) -> bytes:
    return f.ip(source, destination, f.udp(unused(), 53, bytes(max(length - 28, 0))))


@FAMILIES
def test_a_member_sends_tagged_and_its_peer_hears_no_tag(trunk: Net, family: int) -> None:
    sent = packet(t.ADDRESS[FIRST, family], ADDRESS[B, family])
    before = {name: trunk.fabric.counters(name) for name in (A, FIRST, SECOND)}
    assert trunk.deliver(A, B, t.of_member(FIRST, sent)) == f.ether_ip(MAC[B], GATEWAY, sent)
    after = {name: changed(before[name], trunk.fabric.counters(name)) for name in before}
    assert after == {A: {}, FIRST: {"forwarded": 1}, SECOND: {}}


@FAMILIES
def test_what_is_for_a_member_comes_out_of_the_trunk_tagged(trunk: Net, family: int) -> None:
    for name in (FIRST, SECOND):
        sent = packet(ADDRESS[B, family], t.ADDRESS[name, family])
        assert trunk.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], sent)) == t.to_member(name, sent)
    sent = packet(ADDRESS[B, family], ADDRESS[A, family])
    assert trunk.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], sent)) == f.ether_ip(MAC[A], GATEWAY, sent)


@FAMILIES
def test_members_of_one_trunk_reach_each_other_and_it_through_the_vpc(trunk: Net, family: int) -> None:
    first, second, own = t.ADDRESS[FIRST, family], t.ADDRESS[SECOND, family], ADDRESS[A, family]
    sent = packet(first, second)
    assert trunk.deliver(A, A, t.of_member(FIRST, sent)) == t.to_member(SECOND, sent)
    sent = packet(first, own)
    assert trunk.deliver(A, A, t.of_member(FIRST, sent)) == f.ether_ip(MAC[A], GATEWAY, sent)
    sent = packet(own, first)
    assert trunk.deliver(A, A, f.ether_ip(GATEWAY, MAC[A], sent)) == t.to_member(FIRST, sent)


def test_services_and_the_outside(trunk: Net) -> None:
    for there in (SERVICE, OUTSIDE):
        sent = packet(t.ADDRESS[FIRST, 4], ADDRESS[there, 4])
        assert trunk.deliver(A, there, t.of_member(FIRST, sent))[14:] == sent
        back = packet(ADDRESS[there, 4], t.ADDRESS[FIRST, 4])
        assert trunk.deliver(there, A, f.ether_ip(GATEWAY, MAC[there], back)) == t.to_member(FIRST, back)


@FAMILIES
def test_neighbours_are_answered_with_the_tag_of_the_question(trunk: Net, family: int) -> None:
    for name in (FIRST, SECOND):
        asked = ADDRESS[B, family]
        answer = trunk.deliver(A, A, t.tagged(t.VLAN[name], _question(t.ADDRESS[name, family], asked)))
        assert answer[:18] == t.to_member(name, packet("10.0.0.1", "10.0.0.2"))[:16] + _kind(family)
        assert GATEWAY.replace(":", "") in answer[18:].hex()
    plain = trunk.deliver(A, A, _question(ADDRESS[A, family], ADDRESS[B, family]))
    assert plain[12:14] == _kind(family)


def _kind(family: int) -> bytes:
    return (f.ARP if family == 4 else f.IPV6).to_bytes(2, "big")


def _question(source: str, target: str) -> bytes:
    if "." in source:
        asked = f.arp(1, (MAC[A], source), ("00:00:00:00:00:00", target))
        return f.ether(f.BROADCAST, MAC[A], f.ARP, asked)
    group = f.solicited_node(target)
    return f.ether_ip(
        f.multicast_mac(group), MAC[A], f.solicitation(source, group, target, source_mac=MAC[A])
    )


@FAMILIES
def test_addresses_are_of_one_member_and_not_of_the_device(trunk: Net, family: int) -> None:
    first, second, own = t.ADDRESS[FIRST, family], t.ADDRESS[SECOND, family], ADDRESS[A, family]
    for name, source in ((FIRST, second), (FIRST, own), (SECOND, first)):
        sent = t.of_member(name, packet(source, ADDRESS[B, family]))
        _expect(trunk, name, sent, "src_addr")
    trunk.expect(A, f.ether_ip(GATEWAY, MAC[A], packet(first, ADDRESS[B, family])), "src_addr")


def _expect(net: Net, name: str, frame: bytes, reason: str) -> None:
    """As ``net.expect``, of a frame that leaves A's device and counts for ``name``."""
    trunks = net.fabric.counters(A)
    net.stations[name] = net.stations[A]
    try:
        net.expect(name, frame, reason)
    finally:
        del net.stations[name]
    assert name == A or net.fabric.counters(A) == trunks


@FAMILIES
def test_groups_are_the_members_own_and_stateful(net: Net, family: int) -> None:
    closed = SecurityGroupSpec("closed")
    net.reset(t.trunk_view(t.member(FIRST, groups=["closed"]), t.member(SECOND), groups=[closed]))
    mine, theirs, port = t.ADDRESS[FIRST, family], ADDRESS[B, family], unused()
    inward = f.ip(theirs, mine, f.udp(53, port))
    net.expect(B, f.ether_ip(GATEWAY, MAC[B], inward), "group")
    for other in (ADDRESS[A, family], t.ADDRESS[SECOND, family]):
        assert net.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], packet(theirs, other)))
    assert net.deliver(A, B, t.of_member(FIRST, f.ip(mine, theirs, f.udp(port, 53))))
    assert net.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], inward)) == t.to_member(FIRST, inward)
    net.expect(B, f.ether_ip(GATEWAY, MAC[B], packet(theirs, mine)), "group")


def test_a_group_that_lets_its_members_in_lets_in_no_other_on_the_same_device(net: Net) -> None:
    inner = SecurityGroupSpec("inner")
    view = t.trunk_view(t.member(FIRST, groups=["inner"]), t.member(SECOND), groups=[inner])
    ports = [replace(p, groups=frozenset({"inner"})) if p.port_id == B else p for p in view.ports]
    net.reset(replace(view, ports=tuple(ports)))
    sent = packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4])
    assert net.deliver(A, B, t.of_member(FIRST, sent))[14:] == sent
    _expect(net, SECOND, t.of_member(SECOND, packet(t.ADDRESS[SECOND, 4], ADDRESS[B, 4])), "group")
    net.expect(A, f.ether_ip(GATEWAY, MAC[A], packet(ADDRESS[A, 4], ADDRESS[B, 4])), "group")


def test_the_tag_does_not_count_as_length(trunk: Net) -> None:
    trunk.set_mtu(A, 9000)
    whole = packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4], length=1500)
    assert len(trunk.deliver(A, B, t.of_member(FIRST, whole))) == 1514
    back = packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4], length=1500)
    assert trunk.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], back)) == t.to_member(FIRST, back)
    too_long = packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4], length=1501)
    _expect(trunk, FIRST, t.of_member(FIRST, too_long), "mtu")


def test_a_priority_in_the_tag_is_not_carried(trunk: Net) -> None:
    sent = packet(t.ADDRESS[FIRST, 4], t.ADDRESS[SECOND, 4])
    urgent = t.tagged(0xE000 | t.VLAN[FIRST], f.ether_ip(GATEWAY, MAC[A], sent))
    assert trunk.deliver(A, A, urgent) == t.to_member(SECOND, sent)


def test_a_member_may_have_a_mac_of_its_own_on_the_wire(net: Net) -> None:
    net.reset(t.trunk_view(t.member(FIRST, mac=OWN_MAC)))
    sent = packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4])
    assert net.deliver(A, B, t.of_member(FIRST, sent, source=OWN_MAC))[14:] == sent
    back = packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4])
    expected = t.to_member(FIRST, back, destination=OWN_MAC)
    assert net.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], back)) == expected
    _expect(net, FIRST, t.of_member(FIRST, sent), "src_mac")


def test_a_tag_beside_the_frame_is_one_in_it(trunk: Net, tmp_path: Path) -> None:
    """A VLAN device, act_vlan and upstream's filter put it beside; a raw socket puts it in."""
    sent = packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4])
    with t.hooked(trunk, t.compiled(t.VLAN[FIRST], tmp_path), {Direction.EGRESS: "push"}):
        arrived = trunk.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], sent))
    assert arrived == f.ether_ip(MAC[B], GATEWAY, sent)


@contextmanager
def _no_vlan_offload(net: Net) -> Iterator[None]:
    """Meanwhile the fabric's device of A writes tags into the frames, as a card without the feature does."""
    with namespace.entered(net.fabric.netns), socket.socket() as control:
        before = _ethtool(control, net.fabric_name(A), 0x25, 0)
        _ethtool(control, net.fabric_name(A), 0x26, before & ~(1 << 7))
        assert not _ethtool(control, net.fabric_name(A), 0x25, 0) & 1 << 7
    try:
        yield
    finally:
        with namespace.entered(net.fabric.netns), socket.socket() as control:
            _ethtool(control, net.fabric_name(A), 0x26, before)


def _ethtool(control: socket.socket, device: str, command: int, data: int) -> int:
    """ETHTOOL_GFLAGS and _SFLAGS, whose bit 7 is the offload of tags that are sent (uapi/linux/ethtool.h)."""
    value = create_string_buffer(struct.pack("=II", command, data))
    fcntl.ioctl(control, 0x8946, struct.pack("16sP16x", device.encode(), addressof(value)))
    return int(struct.unpack("=II", value.raw[:8])[1])


def test_a_device_that_writes_the_tag_itself_delivers_the_same(trunk: Net) -> None:
    sent = packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4])
    with _no_vlan_offload(trunk):
        assert trunk.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], sent)) == t.to_member(FIRST, sent)


def test_a_capture_of_a_member_has_its_frames_and_no_others(trunk: Net) -> None:
    sent = [packet(t.ADDRESS[name, 4], ADDRESS[B, 4]) for name in (FIRST, SECOND)]
    own = f.ether_ip(GATEWAY, MAC[A], packet(ADDRESS[A, 4], ADDRESS[B, 4]))
    back = packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4])
    with trunk.fabric.capture(FIRST) as tap, trunk.fabric.capture(A) as all_of_it:
        for name, each in zip((FIRST, SECOND), sent, strict=True):
            trunk.deliver(A, B, t.of_member(name, each))
        trunk.deliver(A, B, own)
        trunk.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], back))
        seen = [(frame.data, frame.to_port) for frame in tap.waiting()]
        assert seen == [(t.of_member(FIRST, sent[0]), False), (t.to_member(FIRST, back), True)]
        assert len(list(all_of_it.waiting())) == 4


def test_members_come_and_go_and_the_trunk_stays(net: Net) -> None:
    before = net.fabric_ifindex(A)
    outward = t.of_member(FIRST, packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4]))
    inward = f.ether_ip(GATEWAY, MAC[B], packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4]))
    net.expect(A, outward, "vlan")
    net.expect(B, inward, "dst_addr")
    net.reset(t.trunk_view(t.member(FIRST)))
    assert net.deliver(A, B, outward)
    assert net.deliver(B, A, inward)
    seen = net.fabric.counters(FIRST)["forwarded"]
    net.reset(t.trunk_view(t.member(SECOND)))
    net.expect(A, outward, "vlan")
    net.expect(B, inward, "dst_addr")
    assert net.fabric.counters(FIRST)["forwarded"] == seen
    net.reset(t.trunk_view(t.member(FIRST)))
    assert net.deliver(A, B, outward)
    assert net.fabric.counters(FIRST)["forwarded"] == seen + 1
    assert net.fabric_ifindex(A) == before


def test_another_member_with_the_vlan_of_one_that_left(net: Net) -> None:
    net.reset(t.trunk_view(t.member(FIRST)))
    heir = replace(t.member(SECOND), vlan=t.VLAN[FIRST])
    net.reset(t.trunk_view(heir))
    sent = packet(t.ADDRESS[SECOND, 4], ADDRESS[B, 4])
    assert net.deliver(A, B, t.of_member(FIRST, sent))[14:] == sent
    _expect(net, SECOND, t.of_member(FIRST, packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4])), "src_addr")


def test_members_follow_their_trunk_to_its_next_device(net: Net) -> None:
    net.reset(t.trunk_view())
    view = t.trunk_view()
    rest = tuple(p for p in view.ports if p.owner != A)
    net.reset(replace(view, ports=rest))
    net.expect(B, f.ether_ip(GATEWAY, MAC[B], packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4])), "dst_addr")
    net.reset(view)
    sent = packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4])
    assert net.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], sent)) == t.to_member(FIRST, sent)


def test_a_trunk_that_is_plugged_anew_in_one_step_takes_its_members_along(net: Net) -> None:
    view = t.trunk_view(t.member(FIRST, mac=OWN_MAC))
    net.reset(view)
    before = net.fabric_ifindex(A)
    ports = [replace(p, mac="00:16:3e:00:00:aa") if p.port_id == A else p for p in view.ports]
    net.reset(replace(view, ports=tuple(ports)))
    assert net.fabric_ifindex(A) != before
    sent = packet(ADDRESS[B, 4], t.ADDRESS[FIRST, 4])
    arrived = net.deliver(B, A, f.ether_ip(GATEWAY, MAC[B], sent))
    assert arrived == t.to_member(FIRST, sent, destination=OWN_MAC)


def test_a_device_that_was_lost_comes_back_with_its_members(net: Net) -> None:
    net.reset(t.trunk_view())
    device = net.owner_ifindex(A)
    with namespace.entered(net.namespaces[A]), IPRoute() as netlink:
        netlink.link("del", index=device)
    net.reset(t.trunk_view())
    sent = packet(t.ADDRESS[FIRST, 4], ADDRESS[B, 4])
    assert net.deliver(A, B, t.of_member(FIRST, sent))[14:] == sent


_WRONG: dict[str, Callable[[], object]] = {
    "no trunk": lambda: replace(t.member(FIRST), trunk="eni-none"),
    "on another node": lambda: replace(t.member(FIRST), owner=B),
    "a member as trunk": lambda: replace(t.member(FIRST), trunk=SECOND),
    "VLAN 0": lambda: replace(t.member(FIRST), vlan=0),
    "VLAN 4095": lambda: replace(t.member(FIRST), vlan=4095),
    "a VLAN twice": lambda: replace(t.member(FIRST), vlan=t.VLAN[SECOND]),
    "a tag without trunk": lambda: replace(t.member(FIRST), trunk="", device="eth1"),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_view_that_contradicts_itself_changes_nothing(net: Net, wrong: str) -> None:
    port = _WRONG[wrong]()
    view = t.trunk_view(t.member(SECOND))
    with pytest.raises(ViewError, match=FIRST):
        net.fabric.apply(replace(view, ports=(*view.ports, port)))  # type: ignore[arg-type]
    net.expect(A, t.of_member(SECOND, packet(t.ADDRESS[SECOND, 4], ADDRESS[B, 4])), "vlan")


# --- SourceDestCheck ---

FOREIGN = {4: "192.168.7.7", 6: "2001:db8:77::7"}


def _forwarding(net: Net, *groups: SecurityGroupSpec, of_b: str = "open") -> None:
    view = replace(base_view(), groups=(*base_view().groups, *groups))
    ports = [replace(p, forwards=True) if p.port_id == A else p for p in view.ports]
    ports = [replace(p, groups=frozenset({of_b})) if p.port_id == B else p for p in ports]
    net.reset(replace(view, ports=tuple(ports)))


@FAMILIES
def test_without_the_check_an_eni_sends_from_addresses_that_are_not_its_own(net: Net, family: int) -> None:
    sent = packet(FOREIGN[family], ADDRESS[B, family])
    net.expect(A, f.ether_ip(GATEWAY, MAC[A], sent), "src_addr")
    _forwarding(net)
    assert net.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], sent))[14:] == sent
    other = packet(FOREIGN[family], ADDRESS[A, family])
    net.expect(B, f.ether_ip(GATEWAY, MAC[B], other), "src_addr")


@FAMILIES
def test_what_stays_on_a_link_does_so_without_the_check_too(net: Net, family: int) -> None:
    _forwarding(net)
    for source in ("169.254.1.1", "127.0.0.1", "224.0.0.5") if family == 4 else ("fe80::1", "::1", "ff02::1"):
        net.expect(A, f.ether_ip(GATEWAY, MAC[A], packet(source, ADDRESS[B, family])), "src_addr")


def test_a_foreign_address_is_in_no_group(net: Net) -> None:
    """A rule with a group as its peer means its members' addresses; one with a network means that network."""
    inner = SecurityGroupSpec("inner", (RuleSpec("ingress", peer="open"),))
    _forwarding(net, inner, of_b="inner")
    own, foreign = packet(ADDRESS[A, 4], ADDRESS[B, 4]), packet(FOREIGN[4], ADDRESS[B, 4])
    assert net.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], own))[14:] == own
    net.expect(A, f.ether_ip(GATEWAY, MAC[A], foreign), "group")
    named = replace(inner, rules=(RuleSpec("ingress", peer="192.168.7.0/24"),))
    _forwarding(net, named, of_b="inner")
    assert net.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], foreign))[14:] == foreign
