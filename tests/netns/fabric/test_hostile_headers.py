"""Ports where no header is, or in one that is changed later: padding, fragments, extension headers."""

from __future__ import annotations

import struct

import pytest

from tests.netns.fabric import frames as f
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, A, B, Net, grouped_view, unused
from tests.netns.fabric.test_groups import FAMILIES, Talk, anyone, group, passes

MORE, SYN = 0x2000, 2
OPEN_PORT, CLOSED_PORT = 80, 22
UDP_LITE, DCCP, ESP, AH, MOBILITY = 136, 33, 50, 51, 135


@pytest.fixture(params=["TCP", "UDP"])
def protocol(net: Net, request: pytest.FixtureRequest) -> str:
    """B lets in one port of one protocol."""
    name: str = request.param
    net.reset(grouped_view(group(*anyone(name, ports=(OPEN_PORT, OPEN_PORT))), b=["tested"]))
    return name


def payload(protocol: str, port: int, data: bytes = b"") -> f.L4:
    return f.tcp(unused(), port, data, flags=SYN) if protocol == "TCP" else f.udp(unused(), port, data)


def packet(family: int, number: int, data: bytes, *, fragment: tuple[int, int] = (0, 0)) -> bytes:
    """``fragment``: identification, and IPv4's flags and offset; IPv6 gets its header for the same."""
    ends = ADDRESS[A, family], ADDRESS[B, family]
    if family == 4:
        return f.ether_ip(GATEWAY, MAC[A], f.ipv4(*ends, data, protocol=number, fragment=fragment))
    following = number
    if fragment != (0, 0):
        place = (fragment[1] & 0x1FFF) * 8 | bool(fragment[1] & MORE)
        data, following = struct.pack(">BBHI", number, 0, place, fragment[0]) + data, 44
    return f.ether_ip(GATEWAY, MAC[A], f.ipv6(*ends, data, following=following))


@FAMILIES
@pytest.mark.parametrize("kept", [0, 2, 4, 7])
def test_hostile_padding_is_no_header(net: Net, family: int, protocol: str, kept: int) -> None:
    """The packet ends after ``kept`` bytes of its transport header; the open port lies behind it."""
    segment = payload(protocol, OPEN_PORT)
    frame = packet(family, segment.protocol, segment.data[:kept]) + segment.data[kept:] + bytes(20)
    net.expect(A, frame, "malformed")


@FAMILIES
def test_hostile_padding_carries_no_extension_header(net: Net, family: int, protocol: str) -> None:
    """IPv6 options that say they are longer than the packet; IPv4 options that are."""
    segment = payload(protocol, OPEN_PORT)
    if family == 6:
        header = struct.pack(">BBBB4x", segment.protocol, 2, 1, 4)
        net.expect(A, packet(6, 60, header) + bytes(16) + segment.data, "malformed")
        return
    raw = bytearray(packet(4, segment.protocol, segment.data))
    raw[14] = 0x4F
    net.expect(A, bytes(raw), "malformed")


@FAMILIES
def test_hostile_first_fragment_too_short_for_its_header(net: Net, family: int, protocol: str) -> None:
    """RFC 1858: the ports are in the first 8 bytes, TCP's flags are not."""
    segment, number = payload(protocol, OPEN_PORT, bytes(64)), unused()
    first = packet(family, segment.protocol, segment.data[:8], fragment=(number, MORE))
    if protocol == "TCP":
        net.expect(A, first, "malformed")
        net.expect(A, packet(family, 6, segment.data[8:], fragment=(number, 1)), "fragment")
    else:
        passes(net, Talk(family), first)


@FAMILIES
def test_hostile_fragment_over_the_first(net: Net, family: int, protocol: str) -> None:
    """RFC 1858, RFC 5722: what overlaps the first would write over the header that was judged."""
    segment, number = payload(protocol, OPEN_PORT, bytes(64)), unused()
    first = packet(family, segment.protocol, segment.data[:40], fragment=(number, MORE))
    passes(net, Talk(family), first)
    for place in (1, 2, 4):
        for more in (0, MORE):
            over = packet(family, segment.protocol, bytes(48), fragment=(number, more | place))
            net.expect(A, over, "fragment")
    passes(net, Talk(family), packet(family, segment.protocol, bytes(48), fragment=(number, 5)))


@FAMILIES
def test_hostile_second_first_fragment(net: Net, family: int, protocol: str) -> None:
    """Each is judged by its own ports; a shorter one makes no room for an overlap, a closed one ends all."""
    number, talk = unused(), Talk(family)
    long, short = payload(protocol, OPEN_PORT, bytes(64)), payload(protocol, OPEN_PORT, bytes(64))
    passes(net, talk, packet(family, long.protocol, long.data[:64], fragment=(number, MORE)))
    passes(net, talk, packet(family, short.protocol, short.data[:24], fragment=(number, MORE)))
    net.expect(A, packet(family, long.protocol, bytes(16), fragment=(number, 3)), "fragment")
    passes(net, talk, packet(family, long.protocol, bytes(16), fragment=(number, MORE | 8)))
    closed = payload(protocol, CLOSED_PORT, bytes(64))
    net.expect(A, packet(family, closed.protocol, closed.data[:64], fragment=(number, MORE)), "group")
    net.expect(A, packet(family, long.protocol, bytes(16), fragment=(number, 8)), "group")


@FAMILIES
@pytest.mark.parametrize("number", [UDP_LITE, DCCP, ESP, AH, MOBILITY, 4, 41, 59])
def test_hostile_header_that_groups_do_not_read(net: Net, family: int, protocol: str, number: int) -> None:
    """A rule for a port is no rule for what wraps it: AH in front of TCP is AH."""
    inner = payload(protocol, OPEN_PORT)
    wrapped = struct.pack(">BBHII", inner.protocol, 2, 0, 1, 1) + bytes(4) + inner.data
    net.expect(A, packet(family, number, wrapped), "group")
    net.expect(A, packet(family, number, inner.data), "group")


def test_hostile_chain_hides_no_port(net: Net, protocol: str) -> None:
    """The last header decides, behind options, routing and a fragment header that cuts nothing off."""
    for port, accepted in ((OPEN_PORT, True), (CLOSED_PORT, False)):
        segment = payload(protocol, port)
        whole = f.ip(ADDRESS[A, 6], ADDRESS[B, 6], segment)[40:]
        atomic = struct.pack(">BBHI", segment.protocol, 0, 0, unused()) + whole
        routing = struct.pack(">BBBB4x", 44, 0, 4, 0) + atomic
        frame = packet(6, 60, struct.pack(">BBBB4x", 43, 0, 1, 4) + routing)
        if accepted:
            passes(net, Talk(6), frame)
        else:
            net.expect(A, frame, "group")


def test_hostile_nested_fragments_hide_no_port(net: Net, protocol: str) -> None:
    """Two fragment headers: what the outer one promises is not followed under the inner one's number."""
    segment, outer, inner = payload(protocol, OPEN_PORT, bytes(64)), unused(), unused()
    whole = f.ip(ADDRESS[A, 6], ADDRESS[B, 6], segment)[40:]
    nested = struct.pack(">BBHI", 44, 0, 1, outer) + struct.pack(">BBHI", segment.protocol, 0, 0, inner)
    passes(net, Talk(6), packet(6, 44, nested + whole))
    for number in (outer, inner):
        net.expect(A, packet(6, segment.protocol, bytes(16), fragment=(number, 12)), "fragment")
