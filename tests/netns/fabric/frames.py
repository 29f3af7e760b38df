"""Frames as bytes, built from the outside in: ``ether(..., ip(..., udp(...)))``, with right checksums.

Families are told by the addresses: a dotted one is IPv4. MACs and addresses are given as text.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

ARP, IPV4, IPV6, VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
BROADCAST = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True, slots=True)
class L4:
    """A transport payload whose checksum field, two bytes at ``checksum_at``, is still zero."""

    protocol: int
    data: bytes
    checksum_at: int | None = None


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ether(destination: str, source: str, kind: int, payload: bytes) -> bytes:
    return mac(destination) + mac(source) + struct.pack(">H", kind) + payload


def ether_ip(destination: str, source: str, packet: bytes) -> bytes:
    return ether(destination, source, IPV4 if packet[0] >> 4 == 4 else IPV6, packet)


def udp(source: int, destination: int, payload: bytes = b"") -> L4:
    return L4(UDP, struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload, 6)


def tcp(source: int, destination: int, payload: bytes = b"", *, flags: int = 0x10) -> L4:
    header = struct.pack(">HHIIBBHHH", source, destination, 1, 1, 0x50, flags, 8192, 0, 0)
    return L4(TCP, header + payload, 16)


def echo(identifier: int, *, reply: bool = False, v6: bool = False, payload: bytes = b"") -> L4:
    kind = (129 if reply else 128) if v6 else (0 if reply else 8)
    return icmp(kind, 0, struct.pack(">HH", identifier, 1) + payload, v6=v6)


def icmp(kind: int, code: int, rest: bytes, *, v6: bool = False) -> L4:
    """``rest`` is what follows type, code and checksum."""
    return L4(ICMPV6 if v6 else ICMP, struct.pack(">BBH", kind, code, 0) + rest, 2)


def ip(source: str, destination: str, payload: L4, *, hops: int = 64, options: bytes = b"") -> bytes:
    """An IP packet. ``options`` are IPv4 options, or whole IPv6 extension headers that say what follows."""
    data = _summed(source, destination, payload)
    if isinstance(ip_address(source), IPv4Address):
        return ipv4(source, destination, data, protocol=payload.protocol, hops=hops, options=options)
    return ipv6(source, destination, options + data, following=options_kind(options, payload), hops=hops)


def ipv4(
    source: str,
    destination: str,
    data: bytes,
    *,
    protocol: int,
    hops: int = 64,
    options: bytes = b"",
    fragment: tuple[int, int] = (0, 0),
) -> bytes:
    """``fragment`` is (identification, the flags-and-offset field)."""
    length = 20 + len(options)
    start = struct.pack(">BBHHHBBH", 0x40 | length // 4, 0, length + len(data), *fragment, hops, protocol, 0)
    header = start + ip_address(source).packed + ip_address(destination).packed + options
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + data


def ipv6(source: str, destination: str, data: bytes, *, following: int, hops: int = 64) -> bytes:
    start = struct.pack(">IHBB", 6 << 28, len(data), following, hops)
    return start + ip_address(source).packed + ip_address(destination).packed + data


def options_kind(options: bytes, payload: L4) -> int:
    """IPv6 options here are destination options, so the first header says 60."""
    return 60 if options else payload.protocol


def extension(following: int) -> bytes:
    """Eight bytes of destination options that do nothing (PadN)."""
    return struct.pack(">BBBB4x", following, 0, 1, 4)


def fragments(source: str, destination: str, payload: L4, *, identification: int, cut: int) -> list[bytes]:
    """The packet in two fragments; the first carries ``cut`` bytes, a multiple of 8, of the payload."""
    data = _summed(source, destination, payload)
    parts = [(0, 1, data[:cut]), (cut, 0, data[cut:])]
    if isinstance(ip_address(source), IPv4Address):
        return [
            ipv4(
                source,
                destination,
                part,
                protocol=payload.protocol,
                fragment=(identification, more << 13 | offset // 8),
            )
            for offset, more, part in parts
        ]
    return [
        ipv6(
            source,
            destination,
            struct.pack(">BBHI", payload.protocol, 0, offset | more, identification) + part,
            following=44,
        )
        for offset, more, part in parts
    ]


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """``sender`` and ``target`` are (MAC, address)."""
    ends = [part for m, a in (sender, target) for part in (mac(m), ip_address(a).packed)]
    return struct.pack(">HHBBH", 1, IPV4, 6, 4, operation) + b"".join(ends)


def solicitation(source: str, destination: str, target: str, *, source_mac: str | None) -> bytes:
    """A neighbour solicitation as an IPv6 packet; without ``source_mac`` it has no option."""
    option = b"" if source_mac is None else b"\x01\x01" + mac(source_mac)
    body = icmp(135, 0, bytes(4) + ip_address(target).packed + option, v6=True)
    return ip(source, destination, body, hops=255)


def multicast_mac(address: str) -> str:
    """The MAC of an IPv6 multicast address (RFC 2464, 7)."""
    return "33:33:" + ip_address(address).packed[-4:].hex(":")


def solicited_node(target: str) -> str:
    return str(ip_address(bytes.fromhex("ff0200000000000000000001ff") + ip_address(target).packed[-3:]))


def _summed(source: str, destination: str, payload: L4) -> bytes:
    if payload.checksum_at is None:
        return payload.data
    pseudo = ip_address(source).packed + ip_address(destination).packed
    pseudo += struct.pack(">II", len(payload.data), payload.protocol)
    value = checksum((b"" if payload.protocol == ICMP else pseudo) + payload.data)
    at = payload.checksum_at
    return payload.data[:at] + struct.pack(">H", value) + payload.data[at + 2 :]
