"""Frames made of bytes, every field of them at hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from datapath.netlink.wire import Address, mac_bytes

TCP, UDP, ICMP, ICMPV6, SCTP, GRE = 6, 17, 1, 58, 132, 47
IPV4, IPV6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS = 0, 43, 44, 60


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, slots=True)
class Ip:
    """An IP packet. ``fragment``: IPv4's flags and offset, or the same word of IPv6's header of fragments.

    ``options``: of IPv4, a multiple of four bytes. ``chain``: IPv6 extension headers as (number, bytes).
    """

    source: Address
    destination: Address
    protocol: int = UDP
    payload: bytes = b""
    hop_limit: int = 64
    fragment: int | None = None
    options: bytes = b""
    chain: tuple[tuple[int, bytes], ...] = ()

    def encoded(self) -> bytes:
        return self._v4() if isinstance(self.source, IPv4Address) else self._v6()

    def ethertype(self) -> int:
        return IPV4 if isinstance(self.source, IPv4Address) else IPV6

    def _v4(self) -> bytes:
        length = 20 + len(self.options) + len(self.payload)
        first = 0x40 | (20 + len(self.options)) // 4
        ends = self.source.packed + self.destination.packed
        word = self.fragment or 0
        head = struct.pack("!BBHHHBBH", first, 0, length, 7, word, self.hop_limit, self.protocol, 0)
        total = checksum(head + ends + self.options)
        return head[:10] + total.to_bytes(2, "big") + ends + self.options + self.payload

    def _v6(self) -> bytes:
        chain = self.chain
        if self.fragment is not None:
            chain = (*chain, (FRAGMENT, struct.pack("!BBHI", 0, 0, self.fragment, 7)))
        numbers = [number for number, _ in chain] + [self.protocol]
        body = b"".join(bytes([numbers[place + 1]]) + raw[1:] for place, (_, raw) in enumerate(chain))
        body += self.payload
        head = struct.pack("!IHBB", 6 << 28, len(body), numbers[0], self.hop_limit)
        return head + self.source.packed + self.destination.packed + body


def frame(to: str, source: str, packet: Ip | bytes, *, ethertype: int | None = None) -> bytes:
    kind = ethertype if ethertype is not None else packet.ethertype() if isinstance(packet, Ip) else 0
    body = packet.encoded() if isinstance(packet, Ip) else packet
    return mac_bytes(to) + mac_bytes(source) + kind.to_bytes(2, "big") + body


def tagged(untagged: bytes, vlan: int = 100) -> bytes:
    return untagged[:12] + struct.pack("!HH", VLAN, vlan) + untagged[12:]


def udp(source: int, destination: int, data: bytes = b"payload") -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


def udp_checked(ends: tuple[Address, Address], ports: tuple[int, int], data: bytes) -> bytes:
    """With the checksum that a receiver asks for."""
    raw = udp(*ports, data)
    pseudo = ends[0].packed + ends[1].packed + struct.pack("!II", len(raw), UDP)
    return raw[:6] + checksum(pseudo + raw).to_bytes(2, "big") + raw[8:]


def tcp(source: int, destination: int, data: bytes = b"", *, words: int = 5) -> bytes:
    """``words`` of four bytes is what the header says of its own length."""
    head = struct.pack("!HHIIBBHHH", source, destination, 1, 2, words << 4, 0x18, 1000, 0, 0)
    return head + bytes(max(0, words - 5) * 4) + data


def icmp(kind: int, code: int = 0, rest: int = 0, data: bytes = b"") -> bytes:
    """``rest``: the identifier in the upper half of the second word."""
    raw = struct.pack("!BBHI", kind, code, 0, rest << 16) + data
    return raw[:2] + checksum(raw).to_bytes(2, "big") + raw[4:]


def extension(words: int = 0) -> bytes:
    """An IPv6 options header of 8 * (words + 1) bytes of padding."""
    return bytes([0, words]) + bytes([1, 4 + 8 * words]) + bytes(4 + 8 * words)


def v4(text: str) -> IPv4Address:
    return IPv4Address(text)


def v6(text: str) -> IPv6Address:
    return IPv6Address(text)
