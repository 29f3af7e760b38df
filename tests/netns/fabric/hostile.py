"""Frames with which an ENI (A) deceives its neighbours or its VPC, and the reason each is dropped for.

Beside them ``HONEST``: what a healthy node says of itself, which is no fault.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from tests.netns.fabric import frames as f
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, UNASSIGNED, A, B
from tests.netns.fabric.talk import (
    ALL_ROUTERS,
    GATEWAY_LINK_LOCAL,
    IPVLAN_LINK_LOCAL,
    LINK_LOCAL,
    OWN,
    OWN_6,
    SUBNET_GATEWAY,
    advertise,
    arp,
    bootp,
    dhcp,
    dhcp6,
    icmp6,
    igmp,
    option,
    redirect_4,
    redirect_6,
    report_6,
    router_advert,
    solicit,
)

TO_B = ADDRESS[B, 6]


@dataclass(frozen=True, slots=True)
class Hostile:
    name: str
    reason: str
    frame: bytes


def _arp() -> Iterator[Hostile]:
    victims = (
        ("gateway", SUBNET_GATEWAY[4], "claim_gateway"),
        ("b", ADDRESS[B, 4], "claim_address"),
        ("free", UNASSIGNED[4], "claim_address"),
        ("zero", "0.0.0.0", "claim_address"),
    )
    for name, address, reason in victims:
        yield Hostile(f"arp-reply-{name}", reason, arp(2, address, OWN))
        yield Hostile(f"arp-reply-to-gateway-{name}", reason, arp(2, address, OWN, to=GATEWAY))
        yield Hostile(f"arp-reply-to-b-{name}", reason, arp(2, address, ADDRESS[B, 4], to=MAC[B]))
        yield Hostile(f"arp-announcement-{name}", reason, arp(1, address, address))
        yield Hostile(f"arp-announcement-as-reply-{name}", reason, arp(2, address, address))
        yield Hostile(f"arp-probe-{name}", reason, arp(1, "0.0.0.0", address))
        if name != "zero":
            yield Hostile(f"arp-question-by-{name}", reason, arp(1, address, UNASSIGNED[4]))
    yield Hostile("arp-reply-other-mac", "src_mac", arp(2, OWN, OWN, mac=GATEWAY))


def _advertisements() -> Iterator[Hostile]:
    victims = (
        ("gateway", SUBNET_GATEWAY[6], "claim_gateway"),
        ("gateway-link-local", GATEWAY_LINK_LOCAL, "claim_gateway"),
        ("b", ADDRESS[B, 6], "claim_address"),
        ("b-link-local", LINK_LOCAL[B], "claim_address"),
        ("free", UNASSIGNED[6], "claim_address"),
    )
    for name, address, reason in victims:
        yield Hostile(f"na-{name}", reason, advertise(address))
        yield Hostile(f"na-to-b-{name}", reason, advertise(address, to=TO_B, flags=0x60000000))
        yield Hostile(f"na-as-itself-{name}", reason, advertise(address, source=address))
        yield Hostile(f"na-of-own-from-{name}", reason, advertise(OWN_6, source=address))
        yield Hostile(f"na-extension-{name}", reason, advertise(address, extension=f.extension(f.ICMPV6)))
        yield Hostile(f"na-no-option-{name}", reason, advertise(address, options=b""))
        probe = solicit(address, source="::", options=b"")
        yield Hostile(f"dad-probe-{name}", reason, probe)
        yield Hostile(f"ns-by-{name}", reason, solicit(UNASSIGNED[6], source=address))
    yield Hostile("na-other-mac", "src_mac", advertise(OWN_6, options=option(2, GATEWAY)))
    yield Hostile("na-second-option", "src_mac", advertise(OWN_6, options=option(2) + option(2, MAC[B])))
    yield Hostile("na-hop-limit", "nd_invalid", advertise(OWN_6, hops=254))
    yield Hostile("na-checksum", "nd_invalid", advertise(OWN_6, damage=1))
    yield Hostile("na-code", "nd_invalid", advertise(OWN_6, code=1))
    yield Hostile("na-multicast-target", "nd_invalid", advertise("ff02::1"))
    yield Hostile("na-solicited-to-all", "nd_invalid", advertise(OWN_6, flags=0x40000000))


def _solicitations() -> Iterator[Hostile]:
    target = SUBNET_GATEWAY[6]
    yield Hostile("ns-hop-limit", "nd_invalid", solicit(target, hops=254))
    yield Hostile("ns-checksum", "nd_invalid", solicit(target, damage=1))
    yield Hostile("ns-code", "nd_invalid", solicit(target, code=1))
    yield Hostile("ns-multicast-target", "nd_invalid", solicit("ff02::1"))
    yield Hostile("ns-empty-option", "nd_invalid", solicit(target, options=bytes(8)))
    yield Hostile("ns-cut-option", "nd_invalid", solicit(target, options=b"\x01\x02" + f.mac(MAC[A])))
    yield Hostile("ns-long-option", "nd_invalid", solicit(target, options=b"\x01\x02" + bytes(14)))
    yield Hostile("ns-many-options", "nd_invalid", solicit(target, options=(b"\x0e\x01" + bytes(6)) * 9))
    yield Hostile("ns-huge", "nd_invalid", solicit(target, options=b"\x0e\x20" + bytes(254)))
    yield Hostile("ns-other-mac", "src_mac", solicit(target, options=option(1, MAC[B])))
    yield Hostile("ns-gateway-mac", "src_mac", solicit(target, options=option(1, GATEWAY)))
    yield Hostile("ns-by-multicast", "claim_address", solicit(target, source="ff02::1"))
    yield Hostile("ns-by-loopback", "claim_address", solicit(target, source="::1"))
    yield Hostile("dad-with-option", "nd_invalid", solicit(OWN_6, source="::"))
    yield Hostile("dad-to-all-nodes", "nd_invalid", solicit(OWN_6, source="::", to="ff02::1", options=b""))
    yield Hostile("dad-to-unicast", "nd_invalid", solicit(OWN_6, source="::", to=OWN_6, options=b""))
    yield Hostile("rs-hop-limit", "nd_invalid", icmp6(133, bytes(4), to=ALL_ROUTERS, hops=64))
    yield Hostile("rs-by-b", "claim_address", icmp6(133, bytes(4), to=ALL_ROUTERS, source=LINK_LOCAL[B]))
    yield Hostile("rs-other-mac", "src_mac", icmp6(133, bytes(4) + option(1, MAC[B]), to=ALL_ROUTERS))
    yield Hostile(
        "rs-of-nobody-with-mac", "nd_invalid", icmp6(133, bytes(4) + option(1), to=ALL_ROUTERS, source="::")
    )
    yield from _fragmented_advertisement()


def _fragmented_advertisement() -> Iterator[Hostile]:
    """RFC 6980: what is in fragments is no neighbour discovery."""
    body = f.icmp(136, 0, bytes(4) + ip_address(OWN_6).packed + option(2) * 4, v6=True)
    first, _ = f.fragments(LINK_LOCAL[A], "ff02::1", body, identification=77, cut=32)
    yield Hostile("na-fragment", "nd_invalid", f.ether_ip(f.multicast_mac("ff02::1"), MAC[A], first))


def _routers() -> Iterator[Hostile]:
    for name, source in (("own", LINK_LOCAL[A]), ("gateway", GATEWAY_LINK_LOCAL)):
        yield Hostile(f"ra-{name}", "claim_router", router_advert(source=source))
        yield Hostile(f"ra-to-b-{name}", "claim_router", router_advert(source=source, to=TO_B))
        yield Hostile(f"ra-hop-limit-{name}", "claim_router", router_advert(source=source, hops=64))
        behind = router_advert(source=source, extension=f.extension(f.ICMPV6))
        yield Hostile(f"ra-extension-{name}", "claim_router", behind)
        yield Hostile(f"redirect-{name}", "claim_router", redirect_6(source=source))
        yield Hostile(f"mld-query-{name}", "claim_router", report_6(130, source))
    yield Hostile("redirect-4", "claim_router", redirect_4())
    router = f.icmp(9, 0, struct.pack(">BBH", 1, 2, 1800) + ip_address(OWN).packed + bytes(4))
    yield Hostile(
        "router-advertisement-4",
        "claim_router",
        f.ether_ip("01:00:5e:00:00:01", MAC[A], f.ip(OWN, "224.0.0.1", router, hops=1)),
    )
    yield Hostile("igmp-query", "claim_router", igmp(0x11, OWN))


def _members() -> Iterator[Hostile]:
    for kind in (0x12, 0x16, 0x17, 0x22):
        for name, source in (
            ("b", ADDRESS[B, 4]),
            ("gateway", SUBNET_GATEWAY[4]),
            ("abroad", "198.51.100.1"),
        ):
            yield Hostile(f"igmp-{kind:#x}-{name}", "src_addr", igmp(kind, source))
    for kind in (131, 132, 143):
        for name, source in (("b", LINK_LOCAL[B]), ("gateway", GATEWAY_LINK_LOCAL), ("global", TO_B)):
            yield Hostile(f"mld-{kind}-{name}", "src_addr", report_6(kind, source))


def _dhcp() -> Iterator[Hostile]:
    offer = bootp(2, operation=2)
    server = (67, 68)
    yield Hostile("dhcp-offer", "claim_dhcp", dhcp(offer, ports=server, ends=(OWN, "255.255.255.255")))
    unicast = dhcp(offer, ports=server, ends=(OWN, ADDRESS[B, 4]), link=GATEWAY)
    yield Hostile("dhcp-offer-to-b", "claim_dhcp", unicast)
    elsewhere = dhcp(offer, ports=(1067, 68), ends=(OWN, ADDRESS[B, 4]), link=GATEWAY)
    yield Hostile("dhcp-offer-to-b-from-another-port", "claim_dhcp", elsewhere)
    by_gateway = dhcp(offer, ports=server, ends=(SUBNET_GATEWAY[4], "255.255.255.255"))
    yield Hostile("dhcp-offer-by-gateway", "claim_dhcp", by_gateway)
    yield Hostile("dhcp-other-mac", "src_mac", dhcp(bootp(1, mac=MAC[B])))
    foreign = dhcp(bootp(3, client=ADDRESS[B, 4]), ends=(ADDRESS[B, 4], "255.255.255.255"))
    yield Hostile("dhcp-by-b", "src_addr", foreign)
    yield Hostile("dhcp-reply-from-client-port", "malformed", dhcp(offer))
    yield Hostile("dhcp-cut", "malformed", dhcp(bootp(1)[:200]))
    yield Hostile("dhcp6-advertise", "claim_dhcp", dhcp6(2, (547, 546), to="ff02::1"))
    yield Hostile("dhcp6-reply-to-b", "claim_dhcp", dhcp6(7, (547, 546), source=OWN_6, to=TO_B))
    other = dhcp6(7, (1547, 546), source=OWN_6, to=TO_B)
    yield Hostile("dhcp6-reply-to-b-from-another-port", "claim_dhcp", other)
    yield Hostile("dhcp6-by-b", "claim_address", dhcp6(1, (546, 547), source=LINK_LOCAL[B]))


def _land() -> Iterator[Hostile]:
    for family, own in ((4, OWN), (6, OWN_6)):
        payloads = {"udp": f.udp(53, 53), "tcp": f.tcp(80, 80, flags=2), "echo": f.echo(7, v6=family == 6)}
        for name, payload in payloads.items():
            yield Hostile(
                f"land-{name}-{family}", "land", f.ether_ip(GATEWAY, MAC[A], f.ip(own, own, payload))
            )


HOSTILE = tuple(
    frame
    for group in (_arp, _advertisements, _solicitations, _routers, _members, _dhcp, _land)
    for frame in group()
)

HONEST = {
    "probe": arp(1, "0.0.0.0", OWN),
    "announcement": arp(1, OWN, OWN),
    "announcement as a reply": arp(2, OWN, OWN),
    "reply": arp(2, OWN, SUBNET_GATEWAY[4], to=GATEWAY),
    "na to all": advertise(OWN_6),
    "na of a router": advertise(OWN_6, source=OWN_6, flags=0xA0000000),
    "na of its link-local address": advertise(LINK_LOCAL[A]),
    "na to the gateway": advertise(OWN_6, source=OWN_6, to=SUBNET_GATEWAY[6], flags=0x60000000),
    "na without option": advertise(OWN_6, options=b""),
    "dad": solicit(OWN_6, source="::", options=b""),
    "dad with a nonce": solicit(OWN_6, source="::", options=b"\x0e\x01" + bytes(range(6))),
    "dad of its link-local address": solicit(LINK_LOCAL[A], source="::", options=b""),
    "dad of an ipvlan's": solicit(IPVLAN_LINK_LOCAL, source="::", options=b""),
    "rs": icmp6(133, bytes(4) + option(1), to=ALL_ROUTERS),
    "rs of nobody": icmp6(133, bytes(4), source="::", to=ALL_ROUTERS),
    "mld": report_6(143, LINK_LOCAL[A]),
    "mld of nobody": report_6(143, "::"),
    "mld done": report_6(132, LINK_LOCAL[A]),
    "igmp": igmp(0x22, OWN),
    "igmp of nobody": igmp(0x16, "0.0.0.0"),
    "dhcp release": dhcp(bootp(7, client=OWN), ends=(OWN, SUBNET_GATEWAY[4]), link=GATEWAY),
    "dhcp of an ENI without primary address": dhcp(bootp(1)),
    "dhcp6": dhcp6(1, (546, 547)),
}
