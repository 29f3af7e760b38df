"""Frames as a pod with root may write them, sent raw from its namespace, and what is heard there."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

from datapath import namespace
from tests.pace import patience

Address = IPv4Address | IPv6Address

ETH_ARP, ETH_IP, ETH_IPV6, ETH_VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
ETH_ALL = 3
BROADCAST = "ff:ff:ff:ff:ff:ff"
NS, NA, RS, RA = 135, 136, 133, 134
PATIENCE = patience(3.0)
QUIET = patience(0.3)
"""Seconds in which what was not stopped would have come."""


@contextmanager
def raw(netns: int, device: str = "eth0") -> Iterator[socket.socket]:
    """Sends whole frames by the device and hears all that comes in by it."""
    with namespace.entered(netns):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
        made.bind((device, ETH_ALL))
    made.settimeout(PATIENCE)
    with made:
        yield made


def heard(listener: socket.socket, wanted: Callable[[bytes], bool], *, within: float = PATIENCE) -> bytes:
    """The first frame that is wanted and that others sent; b"" if none comes in time."""
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            frame, origin = listener.recvfrom(65536)
        except TimeoutError:
            break
        if origin[2] != socket.PACKET_OUTGOING and wanted(frame):
            return frame
    return b""


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(target: str, source: str, kind: int, body: bytes, *, tags: int = 0) -> bytes:
    """``tags``: so many 802.1Q tags of VID 0."""
    head = mac(target) + mac(source)
    for _ in range(tags):
        head += struct.pack("!HH", ETH_VLAN, 0)
    return head + struct.pack("!H", kind) + body


def arp(sender_mac: str, sender: Address, target: Address, *, reply: bool = False) -> bytes:
    head = struct.pack("!HHBBH", 1, ETH_IP, 6, 4, 2 if reply else 1)
    return head + mac(sender_mac) + sender.packed + bytes(6) + target.packed


def checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source: Address, target: Address, port: int, *, options: bytes = b"", ttl: int = 64) -> bytes:
    """A whole packet from port 4000. ``options``: of IPv4, in words of four bytes."""
    payload = struct.pack("!HHHH", 4000, port, 12, 0) + b"mark"
    if isinstance(source, IPv4Address):
        words = 5 + len(options) // 4
        total = 4 * words + len(payload)
        head = struct.pack("!BBHHHBBH", 0x40 | words, 0, total, 1, 0, ttl, 17, 0)
        head += source.packed + target.packed + options
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return head + payload
    pseudo = source.packed + target.packed + struct.pack("!II", len(payload), 17)
    payload = payload[:6] + struct.pack("!H", checksum(pseudo + payload)) + payload[8:]
    return struct.pack("!IHBB", 6 << 28, len(payload), 17, ttl) + source.packed + target.packed + payload


def icmp6(source: IPv6Address, target: IPv6Address, kind: int, body: bytes) -> bytes:
    payload = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = source.packed + target.packed + struct.pack("!II", len(payload), 58)
    payload = payload[:2] + struct.pack("!H", checksum(pseudo + payload)) + payload[4:]
    return struct.pack("!IHBB", 6 << 28, len(payload), 58, 255) + source.packed + target.packed + payload


def solicitation(source: IPv6Address, sender_mac: str, target: IPv6Address) -> bytes:
    """NS with the sender's link-layer address, to the target's solicited-node group."""
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | (int(target) & 0xFFFFFF))
    option = b"" if source.is_unspecified else b"\1\1" + mac(sender_mac)
    return icmp6(source, group, NS, bytes(4) + target.packed + option)


def group_mac(target: IPv6Address) -> str:
    """Where a solicitation for ``target`` is sent to."""
    return "33:33:ff:" + target.packed[-3:].hex(":")
