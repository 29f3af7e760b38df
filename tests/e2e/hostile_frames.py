"""What an attacker with root in a pod puts on its link, frame by frame, and what becomes of each.

``attacks`` is the list; every test that plays an attacker takes it from here: packet by packet
(tests/bpf), through real links (tests/netns/fastpath) and against an agent's pods (tests/e2e).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from datapath.netlink.wire import Address, mac_bytes
from tests.bpf import packets as p
from tests.bpf.packets import Ip, frame

PORT = 4000
"""Where the target listens; what an attacker gets through is a datagram to it."""

MARKER = b"not the sender's own address"
INVENTED_MAC = "06:00:00:00:00:99"
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = IPv6Address("ff02::1")
ALL_ROUTERS = IPv6Address("ff02::2")
GATEWAY = IPv4Address("169.254.1.1")
GATEWAY_V6 = IPv6Address("fe80::1")
VLAN_TYPES = {"802.1Q": 0x8100, "802.1ad": 0x88A8}
REQUEST, REPLY = 1, 2
RS, RA, NS, NA, REDIRECT, MLD_QUERY = 133, 134, 135, 136, 137, 130
SOURCE_MAC, TARGET_MAC = 1, 2
FOREIGN: dict[int, dict[str, Address]] = {
    4: {
        "metadata": IPv4Address("100.100.100.200"),
        "abroad": IPv4Address("203.0.113.99"),
        "nobody": IPv4Address("0.0.0.0"),
        "loopback": IPv4Address("127.0.0.1"),
        "group": IPv4Address("224.0.0.5"),
    },
    6: {
        "abroad": IPv6Address("2001:db8:ffff::99"),
        "nobody": IPv6Address("::"),
        "link-local": IPv6Address("fe80::66"),
        "loopback": IPv6Address("::1"),
        "group": IPv6Address("ff02::66"),
    },
}
ETHERTYPES = {
    "MPLS": 0x8847,
    "PPPoE": 0x8864,
    "loopback": 0x9000,
    "QinQ of old": 0x9100,
    "LLDP": 0x88CC,
    "LLC": 0x0026,
    "RARP": 0x8035,
    "EAPOL": 0x888E,
}
TUNNELS = {"IPIP": 4, "6in4": 41, "GRE": 47, "EtherIP": 97}


@dataclass(frozen=True, slots=True)
class Stance:
    """Where the attacker stands. ``own`` and the like are by IP version; ``host_mac`` is its host veth's."""

    mac: str
    host_mac: str
    own: dict[int, Address]
    victim: dict[int, Address]
    """The address of another pod, which the attacker claims."""
    victim_mac: str
    target: dict[int, Address]
    """Whom it writes to: a third pod."""
    node: dict[int, Address]

    def foreign(self, version: int) -> dict[str, Address]:
        """Sources that are not the attacker's."""
        return {"neighbour": self.victim[version], "node": self.node[version], **FOREIGN[version]}


@dataclass(frozen=True, slots=True)
class Attack:
    """One frame. ``reason`` is what pod_egress counts, ``kind`` groups them."""

    kind: str
    name: str
    version: int
    reason: str
    frame: bytes

    @property
    def id(self) -> str:
        return f"{self.kind}, {self.name}, IPv{self.version}"


def attacks(at: Stance) -> Iterator[Attack]:
    for version in (4, 6):
        yield from tags(at, version)
        yield from sources(at, version)
        yield from contradictions(at, version)
        yield from tunnels(at, version)
        yield from routers(at, version)
    yield from ethertypes(at)
    yield from arp_claims(at)
    yield from nd_claims(at)


def datagram(source: Address, target: Address, data: bytes = MARKER) -> Ip:
    """With a checksum that a receiver accepts."""
    return Ip(source, target, p.UDP, p.udp_checked((source, target), (PORT, PORT), data))


def sent(at: Stance, packet: Ip | bytes, *, ethertype: int | None = None) -> bytes:
    return frame(at.host_mac, at.mac, packet, ethertype=ethertype)


def tagged(untagged: bytes, ethertype: int, vlan: int) -> bytes:
    return untagged[:12] + struct.pack("!HH", ethertype, vlan) + untagged[12:]


# A check that comes after an exit


def tags(at: Stance, version: int) -> Iterator[Attack]:
    """Linux strips a tag of VID 0 and routes what is beneath it."""
    for whose, source in (*at.foreign(version).items(), ("own", at.own[version])):
        plain = sent(at, datagram(source, at.target[version]))
        for outer, outer_type in VLAN_TYPES.items():
            for vlan in (0, 100):
                once = tagged(plain, outer_type, vlan)
                yield Attack("tag", f"{outer} {vlan}, {whose}", version, "drop_vlan", once)
            for inner, inner_type in VLAN_TYPES.items():
                twice = tagged(tagged(plain, inner_type, 0), outer_type, 0)
                yield Attack("tag", f"{outer} in {inner}, {whose}", version, "drop_vlan", twice)


def sources(at: Stance, version: int) -> Iterator[Attack]:
    for whose, source in at.foreign(version).items():
        raw = sent(at, datagram(source, at.target[version]))
        yield Attack("source", whose, version, "drop_src_address", raw)
        later = replace(datagram(source, at.target[version]), fragment=0x0010 if version == 4 else 0x0040)
        yield Attack("source of a fragment", whose, version, "drop_src_address", sent(at, later))
        behind: dict[str, object] = {"options": bytes([1] * 4)}
        if version == 6:
            behind = {"chain": ((p.OPTIONS, p.extension()),)}
        optional = replace(datagram(source, at.target[version]), **behind)  # type: ignore[arg-type]
        yield Attack("source behind options", whose, version, "drop_src_address", sent(at, optional))
    honest = datagram(at.own[version], at.target[version])
    other = frame(at.host_mac, at.victim_mac, honest)
    yield Attack("source", "another MAC", version, "drop_src_mac", other)


def ethertypes(at: Stance) -> Iterator[Attack]:
    for name, number in ETHERTYPES.items():
        packet = datagram(at.victim[4], at.target[4]).encoded()
        yield Attack("ethertype", name, 4, "drop_not_ip", sent(at, packet, ethertype=number))


def tunnels(at: Stance, version: int) -> Iterator[Attack]:
    """To the node, which unpacks it if it has a device for such: the packet inside comes from anybody."""
    inner = datagram(at.victim[version], at.target[version])
    for name, number in TUNNELS.items():
        head = struct.pack("!HH", 0, inner.ethertype()) if name == "GRE" else b""
        outer = Ip(at.own[version], at.node[version], number, head + inner.encoded())
        yield Attack("tunnel", name, version, "drop_tunnel", sent(at, outer))
        cut = replace(outer, fragment=0x2000 if version == 4 else 0x0001)
        yield Attack("tunnel in fragments", name, version, "drop_tunnel", sent(at, cut))


# Lengths


def contradictions(at: Stance, version: int) -> Iterator[Attack]:
    """Packets of the attacker's own whose lengths do not agree with each other or with the frame."""
    own, target = at.own[version], at.target[version]
    header = 20 if version == 4 else 40
    whole = sent(at, datagram(own, target))
    tcp = sent(at, Ip(own, target, p.TCP, p.tcp(PORT, PORT)))

    def of_ip(raw: bytes, length: int) -> bytes:
        """``length`` of the whole packet, said by the IP header."""
        at_, said = (16, length) if version == 4 else (18, length - 40)
        made = bytearray(raw)
        made[at_ : at_ + 2] = said.to_bytes(2, "big")
        if version == 4:
            made[24:26] = b"\0\0"
            made[24:26] = p.checksum(bytes(made[14:34])).to_bytes(2, "big")
        return bytes(made)

    def of_udp(length: int) -> bytes:
        place = 14 + header + 4
        return whole[:place] + length.to_bytes(2, "big") + whole[place + 2 :]

    doff = 14 + header + 12
    yield from (
        Attack("length", name, version, "drop_malformed", raw)
        for name, raw in (
            ("longer than the frame", of_ip(whole, len(whole) - 14 + 1)),
            ("UDP header in the padding", of_ip(whole, header)),
            ("UDP header half in the padding", of_ip(whole, header + 4)),
            ("UDP longer than its packet", of_udp(len(whole) - 14 - header + 1)),
            ("UDP shorter than its header", of_udp(7)),
            ("TCP header in the padding", of_ip(tcp, header)),
            ("TCP options behind the packet", tcp[:doff] + b"\xf0" + tcp[doff + 1 :] + bytes(40)),
            ("TCP header half in the padding", of_ip(tcp, header + 19)),
            ("IP of the other version", whole[:14] + bytes([whole[14] ^ 0x20]) + whole[15:]),
        )
    )
    icmp = p.ICMP if version == 4 else p.ICMPV6
    echo = sent(at, Ip(own, target, icmp, p.icmp(8 if version == 4 else 128)))
    yield Attack("length", "ICMP header in the padding", version, "drop_malformed", of_ip(echo, header + 4))
    if version == 6:
        chain = ((p.OPTIONS, p.extension()),)
        behind = sent(at, replace(datagram(own, target), chain=chain))
        yield Attack("length", "extension in the padding", 6, "drop_malformed", of_ip(behind, header + 4))
        many = sent(at, replace(datagram(own, target), chain=chain * 7))
        yield Attack("length", "too many extensions", 6, "drop_malformed", many)
        jumbo = whole[:18] + b"\0\0" + whole[20:]
        yield Attack("length", "a jumbogram that is none", 6, "drop_malformed", jumbo)
        mapped = Ip(IPv6Address(f"::ffff:{at.victim[4]}"), target, p.UDP, p.udp(PORT, PORT))
        yield Attack("source", "mapped IPv4", 6, "drop_malformed", sent(at, mapped))


# What only a router says


def routers(at: Stance, version: int) -> Iterator[Attack]:
    own, target = at.own[version], at.target[version]
    if version == 4:
        quoted = datagram(target, own).encoded()[:28]
        redirect = p.icmp(5, 1, data=quoted)
        advert = p.icmp(9, data=own.packed + bytes(4))
        for name, payload in (("redirect", redirect), ("router advertisement", advert)):
            yield Attack("router", name, 4, "drop_router_talk", sent(at, Ip(own, target, p.ICMP, payload)))
        return
    for whose, source in (("own", own), ("link-local", link_local(at.mac)), ("gateway", GATEWAY_V6)):
        advert = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + option(SOURCE_MAC, at.mac)
        redirect = bytes(4) + target.packed + target.packed + option(TARGET_MAC, at.mac)
        for name, kind, body in (
            ("router advertisement", RA, advert),
            ("redirect", REDIRECT, redirect),
            ("MLD query", MLD_QUERY, bytes(20)),
        ):
            raw = discovery(at, source, ALL_NODES, kind, body)
            yield Attack("router", f"{name}, {whose}", 6, "drop_router_talk", raw)
        direct = discovery(at, source, target, RA, advert)
        yield Attack("router", f"advertisement to a pod, {whose}", 6, "drop_router_talk", direct)


# Invented neighbours


def arp(sender: tuple[str, Address], target: Address, *, operation: int = REQUEST) -> bytes:
    """The body; ``sender`` is MAC and address."""
    ends = mac_bytes(sender[0]) + sender[1].packed + bytes(6) + target.packed
    return struct.pack("!HHBBH", 1, p.IPV4, 6, 4, operation) + ends


def arp_frame(at: Stance, body: bytes, *, to: str = BROADCAST) -> bytes:
    return frame(to, at.mac, body, ethertype=p.ARP)


def option(kind: int, mac: str) -> bytes:
    return bytes([kind, 1]) + mac_bytes(mac)


def link_local(mac: str) -> IPv6Address:
    """The one that is made of the MAC (RFC 4291, appendix A)."""
    raw = mac_bytes(mac)
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:])


def group_of(target: Address) -> IPv6Address:
    """Its solicited-node group."""
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + target.packed[13:])


def checked(source: Address, destination: Address, message: bytes) -> bytes:
    """An ICMPv6 message with its checksum."""
    pseudo = source.packed + destination.packed + struct.pack("!II", len(message), p.ICMPV6)
    return message[:2] + p.checksum(pseudo + message).to_bytes(2, "big") + message[4:]


def discovery(at: Stance, source: Address, destination: Address, kind: int, body: bytes) -> bytes:
    """``body``: all behind the checksum."""
    message = checked(source, destination, bytes([kind, 0, 0, 0]) + body)
    packet = Ip(source, destination, p.ICMPV6, message, hop_limit=255)
    to = f"33:33:{destination.packed[12:].hex(':')}" if destination.is_multicast else at.host_mac
    return frame(to, at.mac, packet)


def solicitation(at: Stance, source: Address, target: Address, options: bytes | None = None) -> bytes:
    """``options`` None: the source's MAC, as it should be."""
    tail = option(SOURCE_MAC, at.mac) if options is None else options
    return discovery(at, source, group_of(target), NS, bytes(4) + target.packed + tail)


def arp_claims(at: Stance) -> Iterator[Attack]:
    own, victim, node = at.own[4], at.victim[4], at.node[4]
    nobody = IPv4Address(0)
    good = arp((at.mac, own), node)
    for name, body in (
        ("request of a neighbour's", arp((at.mac, victim), node)),
        ("reply of a neighbour's", arp((at.mac, victim), node, operation=REPLY)),
        ("announcement of a neighbour's", arp((at.mac, victim), victim)),
        ("announcement of the gateway's", arp((at.mac, GATEWAY), GATEWAY)),
        ("announcement of the node's", arp((at.mac, node), node, operation=REPLY)),
        ("another MAC", arp((INVENTED_MAC, own), node)),
        ("reply of nobody", arp((at.mac, nobody), node, operation=REPLY)),
        ("an operation of its own", arp((at.mac, own), node, operation=9)),
        ("other hardware", b"\0\x06" + good[2:]),
        ("other lengths", good[:4] + b"\x08\x04" + good[6:]),
        ("cut", good[:27]),
    ):
        yield Attack("arp", name, 4, "drop_neighbour", arp_frame(at, body))


def nd_claims(at: Stance) -> Iterator[Attack]:
    own, victim, node, mine = at.own[6], at.victim[6], at.node[6], link_local(at.mac)
    invented, nobody = IPv6Address("fe80::bad:1"), IPv6Address("::")
    foreign = option(SOURCE_MAC, INVENTED_MAC)

    def advert(source: Address, target: Address, mac: str = at.mac) -> bytes:
        body = b"\x60\0\0\0" + target.packed + option(TARGET_MAC, mac)
        return discovery(at, source, ALL_NODES, NA, body)

    for name, raw in (
        ("solicitation of an invented sender", solicitation(at, invented, node)),
        ("solicitation with another MAC", solicitation(at, own, node, foreign)),
        ("solicitation of nobody with a MAC", solicitation(at, nobody, own, option(SOURCE_MAC, at.mac))),
        ("solicitation for a group", solicitation(at, own, ALL_NODES)),
        ("solicitation with half an option", solicitation(at, own, node, b"\x01\x01\0\0")),
        ("solicitation with an empty option", solicitation(at, own, node, bytes(8))),
        ("advertisement of a neighbour's", advert(own, victim)),
        ("advertisement of the node's", advert(mine, node)),
        ("advertisement of the gateway's", advert(mine, GATEWAY_V6)),
        ("advertisement with another MAC", advert(own, own, INVENTED_MAC)),
        ("advertisement of an invented sender", advert(invented, invented)),
        (
            "router solicitation of an invented sender",
            discovery(at, invented, ALL_ROUTERS, RS, bytes(4) + option(SOURCE_MAC, at.mac)),
        ),
        (
            "router solicitation with another MAC",
            discovery(at, mine, ALL_ROUTERS, RS, bytes(4) + foreign),
        ),
    ):
        yield Attack("nd", name, 6, "drop_neighbour", raw)
    far = bytearray(solicitation(at, own, node))
    far[21] = 64
    yield Attack("nd", "solicitation from another link", 6, "drop_neighbour", bytes(far))
    as_victim = solicitation(at, victim, node)
    yield Attack("nd", "solicitation of a neighbour's", 6, "drop_src_address", as_victim)


def floods(at: Stance, count: int) -> Iterator[bytes]:
    """A sender that nobody has seen before in each frame: ``count`` of ARP, and of each ND message."""
    for number in range(1, count + 1):
        v4 = IPv4Address(int(IPv4Address("10.99.0.0")) + number)
        mac = f"06:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        linked = IPv6Address(int(IPv6Address("fe80::bad:0:0:0")) + number)
        yield arp_frame(at, arp((at.mac, v4), at.node[4]))
        yield arp_frame(at, arp((mac, v4), at.node[4], operation=REPLY))
        yield solicitation(at, linked, at.node[6])
        yield solicitation(at, linked, link_local(at.host_mac))
        yield solicitation(at, linked, GATEWAY_V6)
        yield discovery(at, linked, ALL_ROUTERS, RS, bytes(4) + option(SOURCE_MAC, at.mac))
