"""What a host says to its link, as frames of A's: ARP, neighbour discovery, MLD, IGMP, DHCP.

Honest unless the arguments say otherwise.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from tests.netns.fabric import frames as f
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, A, B

NOBODY = "00:00:00:00:00:00"
ALL_NODES, ALL_ROUTERS, ALL_DHCP = "ff02::1", "ff02::2", "ff02::1:2"
GATEWAY_LINK_LOCAL = "fe80::ecff:ffff:feff:ffff"
SUBNET_GATEWAY = {4: "10.0.1.253", 6: "2001:db8:10:1:ffff:ffff:ffff:fffd"}
LINK_LOCAL = {A: "fe80::216:3eff:fe00:a", B: "fe80::216:3eff:fe00:b"}
IPVLAN_LINK_LOCAL = "fe80::16:3e00:100:a"
"""Of A's first IPvlan device: the number in the middle, the universal bit as it is."""
ALERT = struct.pack(">BBHBBBB", f.ICMPV6, 0, 0x0502, 0, 0, 1, 0)
OWN = ADDRESS[A, 4]
OWN_6 = ADDRESS[A, 6]


def arp(operation: int, sender: str, target: str, *, to: str = f.BROADCAST, mac: str = MAC[A]) -> bytes:
    return f.ether(to, MAC[A], f.ARP, f.arp(operation, (mac, sender), (NOBODY, target)))


def icmp6(
    kind: int,
    body: bytes,
    *,
    source: str = LINK_LOCAL[A],
    to: str = ALL_NODES,
    code: int = 0,
    hops: int = 255,
    damage: int = 0,
    options: bytes = b"",
) -> bytes:
    """A message of neighbour discovery or MLD. ``damage`` is added to its checksum."""
    packet = bytearray(f.ip(source, to, f.icmp(kind, code, body, v6=True), hops=hops, options=options))
    at = 40 + len(options) + 2
    packet[at : at + 2] = (int.from_bytes(packet[at : at + 2], "big") + damage & 0xFFFF).to_bytes(2, "big")
    link = f.multicast_mac(to) if ip_address(to).is_multicast else GATEWAY
    return f.ether_ip(link, MAC[A], bytes(packet))


def option(kind: int, mac: str = MAC[A]) -> bytes:
    """A link-layer address: kind 1 of the source, 2 of the target."""
    return bytes([kind, 1]) + f.mac(mac)


def solicit(
    target: str,
    *,
    source: str = OWN_6,
    to: str = "",
    options: bytes | None = None,
    code: int = 0,
    hops: int = 255,
    damage: int = 0,
) -> bytes:
    tail = option(1) if options is None else options
    body = bytes(4) + ip_address(target).packed + tail
    to = to or f.solicited_node(target)
    return icmp6(135, body, source=source, to=to, code=code, hops=hops, damage=damage)


def advertise(
    target: str,
    *,
    source: str = LINK_LOCAL[A],
    to: str = ALL_NODES,
    options: bytes | None = None,
    flags: int = 0x20000000,
    code: int = 0,
    hops: int = 255,
    damage: int = 0,
    extension: bytes = b"",
) -> bytes:
    tail = option(2) if options is None else options
    body = struct.pack(">I", flags) + ip_address(target).packed + tail
    return icmp6(136, body, source=source, to=to, code=code, hops=hops, damage=damage, options=extension)


def router_advert(
    *, source: str = LINK_LOCAL[A], to: str = ALL_NODES, hops: int = 255, extension: bytes = b""
) -> bytes:
    body = struct.pack(">BBHII", 64, 0, 1800, 0, 0) + option(1)
    return icmp6(134, body, source=source, to=to, hops=hops, options=extension)


def redirect_6(*, source: str = GATEWAY_LINK_LOCAL, to: str = ADDRESS[B, 6]) -> bytes:
    body = bytes(4) + ip_address(LINK_LOCAL[A]).packed + ip_address("2001:db8:eeee::1").packed
    return icmp6(137, body, source=source, to=to)


def redirect_4(*, to: str = ADDRESS[B, 4]) -> bytes:
    quoted = f.ip(to, "198.51.100.1", f.udp(1, 2))[:28]
    message = f.icmp(5, 1, ip_address(OWN).packed + quoted)
    return f.ether_ip(GATEWAY, MAC[A], f.ip(OWN, to, message))


def report_6(kind: int, source: str) -> bytes:
    message = f.icmp(kind, 0, bytes(4) + ip_address("ff02::fb").packed, v6=True)
    packet = f.ipv6(source, "ff02::16", ALERT + message.data, following=0, hops=1)
    return f.ether_ip(f.multicast_mac("ff02::16"), MAC[A], packet)


def igmp(kind: int, source: str) -> bytes:
    message = struct.pack(">BBHI", kind, 0, 0, 0)
    packet = f.ipv4(source, "224.0.0.22", message, protocol=2, hops=1, options=b"\x94\x04\x00\x00")
    return f.ether_ip("01:00:5e:00:00:16", MAC[A], packet)


def bootp(
    message: int,
    *,
    operation: int = 1,
    mac: str = MAC[A],
    client: str = "0.0.0.0",
    wanted: str = "",
    flags: int = 0,
) -> bytes:
    """A message of DHCP; ``wanted`` is the address that the client asks for."""
    start = struct.pack(">BBBBIHH", operation, 1, 6, 0, 0x12345678, 7, flags)
    addresses = ip_address(client).packed + bytes(12)
    options = bytes([53, 1, message])
    if wanted:
        options += b"\x32\x04" + ip_address(wanted).packed
    return start + addresses + f.mac(mac) + bytes(10 + 192) + b"\x63\x82\x53\x63" + options + b"\xff"


def dhcp(
    data: bytes,
    *,
    ports: tuple[int, int] = (68, 67),
    ends: tuple[str, str] = ("0.0.0.0", "255.255.255.255"),
    link: str = f.BROADCAST,
) -> bytes:
    return f.ether_ip(link, MAC[A], f.ip(*ends, f.udp(*ports, data)))


def dhcp6(kind: int, ports: tuple[int, int], *, source: str = LINK_LOCAL[A], to: str = ALL_DHCP) -> bytes:
    packet = f.ip(source, to, f.udp(*ports, bytes([kind, 1, 2, 3])))
    link = f.multicast_mac(to) if ip_address(to).is_multicast else GATEWAY
    return f.ether_ip(link, MAC[A], packet)
