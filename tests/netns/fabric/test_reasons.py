"""Each reason by a frame that comes to it: that count moves alone, by exactly one, and nothing comes out."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from datapath import namespace
from datapath.ebpf import libbpf
from tests.bpf import bench
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import (
    ADDRESS,
    GATEWAY,
    MAC,
    OUTSIDE,
    SERVICE,
    UNASSIGNED,
    A,
    B,
    Net,
    base_view,
    unused,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
OFF_LINK = {4: "10.0.9.1", 6: "2001:db8:10:9::1"}
ABROAD = {4: "198.51.100.1", 6: "2001:db8:eeee::1"}
MULTICAST = {4: "224.0.0.251", 6: "ff02::fb"}
LINK_LOCAL = {4: "169.254.1.1", 6: "fe80::1"}
SHOT = 2


def packet(family: int, *, source: str = "", destination: str = "", length: int = 0) -> bytes:
    """A UDP packet from A to B unless told otherwise; ``length`` is that of the whole IP packet."""
    room = max(length - (28 if family == 4 else 48), 0)
    payload = f.udp(unused(), 53, bytes(room))
    return f.ip(source or ADDRESS[A, family], destination or ADDRESS[B, family], payload)


def sent(family: int, *, source: str = "", destination: str = "") -> bytes:
    return f.ether_ip(GATEWAY, MAC[A], packet(family, source=source, destination=destination))


@FAMILIES
def test_a_good_packet_is_forwarded(net: Net, family: int) -> None:
    before = net.fabric.counters(A)
    good = packet(family)
    assert net.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], good)) == f.ether_ip(MAC[B], GATEWAY, good)
    assert net.fabric.counters(A)["forwarded"] == before["forwarded"] + 1


@FAMILIES
def test_src_mac(net: Net, family: int) -> None:
    net.expect(A, f.ether_ip(GATEWAY, MAC[B], packet(family)), "src_mac")


@FAMILIES
def test_dst_mac(net: Net, family: int) -> None:
    net.expect(A, f.ether_ip(MAC[B], MAC[A], packet(family)), "dst_mac")
    net.expect(A, f.ether_ip(f.BROADCAST, MAC[A], packet(family)), "dst_mac")


@FAMILIES
def test_src_addr(net: Net, family: int) -> None:
    for source in (UNASSIGNED[family], ADDRESS[B, family], ABROAD[family], LINK_LOCAL[family]):
        net.expect(A, sent(family, source=source), "src_addr")


@FAMILIES
def test_dst_addr(net: Net, family: int) -> None:
    for destination in (UNASSIGNED[family], OFF_LINK[family], LINK_LOCAL[family], MULTICAST[family]):
        net.expect(A, sent(family, destination=destination), "dst_addr")


@FAMILIES
def test_an_address_that_is_unassigned_again_gets_nothing(net: Net, family: int) -> None:
    assert net.deliver(A, B, sent(family))
    view = base_view()
    gone = [replace(p, addresses=frozenset()) if p.port_id == B else p for p in view.ports]
    net.reset(replace(view, ports=tuple(gone)))
    net.expect(A, sent(family), "dst_addr")
    back = f.ether_ip(
        GATEWAY, MAC[B], packet(family, source=ADDRESS[B, family], destination=ADDRESS[A, family])
    )
    net.expect(B, back, "src_addr")


@FAMILIES
def test_mtu(net: Net, family: int) -> None:
    net.set_mtu(A, 9000)
    fits = packet(family, length=1500)
    assert len(net.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], fits))) == 1514
    net.expect(A, f.ether_ip(GATEWAY, MAC[A], packet(family, length=1501)), "mtu")


@FAMILIES
def test_vlan(net: Net, family: int) -> None:
    inner = packet(family)
    kind = f.IPV4 if family == 4 else f.IPV6
    net.expect(A, f.ether(GATEWAY, MAC[A], f.VLAN, struct.pack(">HH", 100, kind) + inner), "vlan")


def test_ethertype(net: Net) -> None:
    net.expect(A, f.ether(GATEWAY, MAC[A], 0x88CC, bytes(60)), "ethertype")


@FAMILIES
def test_multicast(net: Net, family: int) -> None:
    group = MULTICAST[family]
    to = "01:00:5e:00:00:fb" if family == 4 else f.multicast_mac(group)
    net.expect(A, f.ether_ip(to, MAC[A], packet(family, destination=group)), "multicast")


def test_broadcast(net: Net) -> None:
    net.expect(A, f.ether_ip(f.BROADCAST, MAC[A], packet(4, destination="255.255.255.255")), "multicast")


@FAMILIES
def test_malformed(net: Net, family: int) -> None:
    good = sent(family)
    for payload in (f.udp(unused(), 53, b"cut short"), f.L4(47, bytes(20))):
        whole = f.ether_ip(GATEWAY, MAC[A], f.ip(ADDRESS[A, family], ADDRESS[B, family], payload))
        net.expect(A, whole[:-1], "malformed")
    wrong_version = good[:14] + bytes([good[14] ^ 0xF0]) + good[15:]
    net.expect(A, wrong_version, "malformed")


@FAMILIES
def test_a_tcp_header_that_lies_about_its_length_is_malformed(net: Net, family: int) -> None:
    segment = f.tcp(unused(), 80)
    for offset in (0x40, 0xF0):
        lying = replace(segment, data=segment.data[:12] + bytes([offset]) + segment.data[13:])
        packet = f.ip(ADDRESS[A, family], ADDRESS[B, family], lying)
        net.expect(A, f.ether_ip(GATEWAY, MAC[A], packet), "malformed")


@FAMILIES
def test_headers_in_the_padding_are_malformed(net: Net, family: int) -> None:
    """Lengths are those of the IP header, whatever the frame holds; padding itself is no fault."""
    header = 20 if family == 4 else 40
    good, place = sent(family), 16 if family == 4 else 18

    def said(raw: bytes, payload: int) -> bytes:
        length = payload + (header if family == 4 else 0)
        return raw[:place] + length.to_bytes(2, "big") + raw[place + 2 :]

    for payload in (0, 4, 7):
        net.expect(A, said(good, payload), "malformed")
    longer = good[: 14 + header + 4] + (9).to_bytes(2, "big") + good[14 + header + 6 :]
    net.expect(A, longer, "malformed")
    assert net.deliver(A, B, sent(family) + bytes(20))
    if family == 6:
        group = f.solicited_node(ADDRESS[B, 6])
        asked = f.solicitation(ADDRESS[A, 6], group, ADDRESS[B, 6], source_mac=None)
        net.expect(A, said(f.ether_ip(f.multicast_mac(group), MAC[A], asked), 8), "malformed")


@FAMILIES
@pytest.mark.parametrize(("segment", "reason"), [(1400, ""), (1430, "mtu")])
def test_segments_of_a_tunnel_are_measured_with_all_their_headers(
    net: Net, family: int, segment: int, reason: str
) -> None:
    """Two segments behind 50 bytes of inner headers."""
    room = 8 + 50 + 2 * segment
    frame = f.ether_ip(GATEWAY, MAC[A], packet(family, length=room + (20 if family == 4 else 40)))
    context = bytearray(bench.CONTEXT)
    struct.pack_into("=I", context, bench.IFINDEX, net.fabric_ifindex(A))
    struct.pack_into("=I", context, bench.GSO_SEGS, 2)
    struct.pack_into("=I", context, bench.GSO_SIZE, segment)
    before = net.fabric.counters(A)["mtu"]
    with namespace.entered(net.fabric.netns):
        bench.test_run(net.fabric.program_fd, frame, bytes(context))
    assert net.fabric.counters(A)["mtu"] == before + bool(reason)


def test_extension(net: Net) -> None:
    chain = b"".join([f.extension(60)] * 6) + f.extension(f.UDP)
    packet = f.ip(ADDRESS[A, 6], ADDRESS[B, 6], f.udp(unused(), 53), options=chain)
    net.expect(A, f.ether_ip(GATEWAY, MAC[A], packet), "extension")


def test_options_and_extension_headers_are_followed(net: Net) -> None:
    for family, options in ((4, b"\x01" * 8), (6, f.extension(60) + f.extension(f.UDP))):
        packet = f.ip(ADDRESS[A, family], ADDRESS[B, family], f.udp(unused(), 53, b"x"), options=options)
        assert net.deliver(A, B, f.ether_ip(GATEWAY, MAC[A], packet))[14:] == packet


def test_neighbour(net: Net) -> None:
    request = f.arp(1, (MAC[A], ADDRESS[A, 4]), ("00:00:00:00:00:00", OFF_LINK[4]))
    net.expect(A, f.ether(f.BROADCAST, MAC[A], f.ARP, request), "neighbour")
    group = f.solicited_node(OFF_LINK[6])
    asked = f.solicitation(ADDRESS[A, 6], group, OFF_LINK[6], source_mac=MAC[A])
    net.expect(A, f.ether_ip(f.multicast_mac(group), MAC[A], asked), "neighbour")


@FAMILIES
def test_no_route(net: Net, family: int) -> None:
    view = base_view()
    net.reset(replace(view, ports=tuple(p for p in view.ports if p.port_id != OUTSIDE)))
    net.expect(A, sent(family, destination=ABROAD[family]), "no_route")


@FAMILIES
def test_the_outside_is_everything_else(net: Net, family: int) -> None:
    for destination in (ABROAD[family], ADDRESS[OUTSIDE, family]):
        out = sent(family, destination=destination)
        assert net.deliver(A, OUTSIDE, out)[14:] == out[14:]


@FAMILIES
def test_the_outside_comes_in_by_any_address_that_is_not_the_vpcs(net: Net, family: int) -> None:
    for source in (ABROAD[family], ADDRESS[OUTSIDE, family]):
        inward = packet(family, source=source)
        assert net.deliver(OUTSIDE, B, f.ether_ip(GATEWAY, MAC[OUTSIDE], inward))[14:] == inward
    for source in (ADDRESS[A, family], UNASSIGNED[family], LINK_LOCAL[family]):
        net.expect(OUTSIDE, f.ether_ip(GATEWAY, MAC[OUTSIDE], packet(family, source=source)), "src_addr")
    through = packet(family, source=ABROAD[family], destination=OFF_LINK[family])
    net.expect(OUTSIDE, f.ether_ip(GATEWAY, MAC[OUTSIDE], through), "dst_addr")


def test_the_outside_does_not_reach_services(net: Net) -> None:
    inward = packet(4, source=ABROAD[4], destination=ADDRESS[SERVICE, 4])
    net.expect(OUTSIDE, f.ether_ip(GATEWAY, MAC[OUTSIDE], inward), "dst_addr")


def test_no_port(net: Net) -> None:
    """The program runs on a device that is none of its ports, the loopback of the fabric's namespace."""
    before = net.fabric.counters()["no_port"]
    with namespace.entered(net.fabric.netns):
        run = libbpf.run_program(net.fabric.program_fd, sent(4), ifindex=1)
    assert run.verdict == SHOT
    assert net.fabric.counters()["no_port"] == before + 1


@FAMILIES
def test_every_truncation_of_a_frame_is_malformed(net: Net, family: int) -> None:
    """Cut at every offset behind the Ethernet header; of ARP and ND as well."""
    group = f.solicited_node(ADDRESS[B, 6])
    asked = f.solicitation(ADDRESS[A, 6], group, ADDRESS[B, 6], source_mac=None)
    request = f.arp(1, (MAC[A], ADDRESS[A, 4]), ("00:00:00:00:00:00", ADDRESS[B, 4]))
    question = (
        f.ether(f.BROADCAST, MAC[A], f.ARP, request)
        if family == 4
        else f.ether_ip(f.multicast_mac(group), MAC[A], asked)
    )
    for frame in (sent(family), question):
        for length in range(15, len(frame)):
            net.expect(A, frame[:length], "malformed")
