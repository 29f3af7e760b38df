"""A frame that changes after it was looked at: who leaves a checksum to a card says where it is written.

By PACKET_VNET_HDR an attacker has the last device of the way, or the cloud's end of an ENI, write 16 bits of
its choice over its own address, or over the one that it sends to.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from datapath import namespace
from datapath.netlink.wire import Address
from tests.bpf import packets as p
from tests.bpf.packets import Ip
from tests.e2e.hostile_frames import PORT, datagram, sent
from tests.netns.datapath.world import ENI1
from tests.netns.fastpath.node import FAR, FAR_V6, FastNode, Tenant
from tests.netns.fastpath.test_edges import raw_socket, udp_socket
from tests.netns.fastpath.test_hostile import stance

SOL_PACKET, PACKET_VNET_HDR, NEEDS_CSUM = 263, 15, 1
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
FIRST_START = 20
"""The kernel lets a checksum start no earlier in a frame."""


def finished_by_the_node(node: FastNode) -> None:
    """The ENI leaves no checksum to a card, so what is written shows in the frames that leave."""
    with namespace.entered(node.world.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        value = bytearray(struct.pack("=II", ETHTOOL_STXCSUM, 0))
        held = (ctypes.c_char * len(value)).from_buffer(value)
        request = struct.pack("16sQ8x", b"eni1", ctypes.addressof(held))
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


@contextmanager
def unfinished(attacker: Tenant) -> Iterator[socket.socket]:
    """Takes a frame with a struct virtio_net_hdr before it."""
    with raw_socket(attacker) as raw:
        raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        yield raw


def header(start: int, offset: int) -> bytes:
    return struct.pack("=BBHHHH", NEEDS_CSUM, 0, 0, 0, start, offset)


def with_room(source: Address, target: Address, data: bytes) -> Ip:
    """A datagram, and two bytes behind it that belong to the packet and to no checksum (RFC 9868)."""
    payload = p.udp_checked((source, target), (PORT, PORT), data)
    return Ip(source, target, p.UDP, payload + bytes(2))


def changing(untouched: bytes, wanted: bytes, place: int) -> bytes:
    """``untouched`` with a tail for which the checksum from FIRST_START is ``wanted``'s word at ``place``.

    ``wanted`` is the frame as it shall leave, with the hop limit of then.
    """
    leaving = bytearray(wanted)
    leaving[place : place + 2] = untouched[place : place + 2]
    rest = ~int.from_bytes(wanted[place : place + 2], "big") & 0xFFFF
    have = ~p.checksum(bytes(leaving[FIRST_START:])) & 0xFFFF
    tail = rest - have
    while tail < 0:
        tail += 0xFFFF
    return untouched[:-2] + tail.to_bytes(2, "big")


def spent(raw: bytes, version: int) -> bytes:
    """With a hop less."""
    made = bytearray(raw)
    made[22 if version == 4 else 21] -= 1
    if version == 4:
        made[24:26] = b"\0\0"
        made[24:26] = p.checksum(bytes(made[14:34])).to_bytes(2, "big")
    return bytes(made)


@pytest.mark.parametrize("node", ["conntrack"], indirect=True)
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("field", ["source", "destination"])
def test_hostile_no_checksum_is_written_over_an_address(
    node: FastNode, field: str, version: int, on: bool
) -> None:
    attacker, victim = node.pod(ENI1), node.pod(ENI1)
    at, far = stance(attacker, victim, victim), FAR if version == 4 else FAR_V6
    own, size = attacker.address(version), 4 if version == 4 else 16
    node.fast.switch(on)
    finished_by_the_node(node)
    wished = sent(at, with_room(victim.address(version) if field == "source" else own, far, b"forged"))
    begin = 14 + (12 if version == 4 else 8) + (size if field == "destination" else 0)
    place = begin + size - 2
    shown = bytearray(wished)
    shown[begin : begin + size] = (own if field == "source" else far + 7).packed
    frame = changing(bytes(shown), spent(wished, version), place)
    with udp_socket(node.far, version) as ear, unfinished(attacker) as raw:
        ear.bind((str(far), PORT))
        with node.counting("drop_malformed") as grown:
            raw.send(header(FIRST_START, place - FIRST_START) + frame)
            raw.send(bytes(10) + sent(at, datagram(own, far, b"honest")))
            assert ear.recv(100) == b"honest"
        assert grown["drop_malformed"] == 1
