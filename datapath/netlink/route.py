"""Routes, and the kernel's own answer to "where would this packet go".

Source: linux/rtnetlink.h; struct rtmsg is family, destination length, source length, TOS, table, protocol,
scope, type, flags (u32). A table above 255 goes into RTA_TABLE.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6

from datapath.netlink import wire
from datapath.netlink.memory import Listing, Span
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Kind, Message, Network, Request

_RTMSG = struct.Struct("=BBBBBBBBI")
RTA_DST = 1
RTA_SRC = 2
RTA_IIF = 3
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PREFSRC = 7
RTA_METRICS = 8
RTA_MULTIPATH = 9
RTA_FLOW = 11
RTA_CACHEINFO = 12
RTA_TABLE = 15
RTA_ENCAP_TYPE = 21
RTA_ENCAP = 22

MAIN = 254
RTN_UNICAST = 1
RTN_LOCAL = 2
RTN_BROADCAST = 3
RTN_ANYCAST = 4
RTN_MULTICAST = 5
RTN_BLACKHOLE = 6
RTN_UNREACHABLE = 7
RTN_PROHIBIT = 8
RTN_THROW = 9
SCOPE_UNIVERSE = 0
SCOPE_LINK = 253
SCOPE_HOST = 254
SCOPE_NOWHERE = 255
RTPROT_UNSPEC = 0
RTNH_F_ONLINK = 4
RTM_F_LOOKUP_TABLE = 0x1000

PROTOCOL = 2
"""RTPROT_KERNEL: systemd-networkd deletes routes and rules of every other origin that it did not make,
unless told ManageForeignRoutes=no (cilium#18706, aws-cni#3309)."""

_REFUSALS = {RTN_BLACKHOLE: "blackhole", RTN_PROHIBIT: "prohibit", RTN_THROW: "throw"}
_ENDS = {RTN_LOCAL: "local", RTN_BROADCAST: "broadcast", RTN_ANYCAST: "anycast", RTN_MULTICAST: "multicast"}
_LOOPBACK = 1
_TABLE_OFFSET, _TYPE_OFFSET = 4, 7
# No route to it, or a source that is distrusted.
_NO_WAY = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EXDEV, errno.EACCES, errno.ENODEV}
)
# A kernel without the family (IPv6 with ``ipv6.disable=1``) has nobody who would know of its routes.
_NO_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
_BESIDES = (RTA_METRICS, RTA_PREFSRC, RTA_FLOW, RTA_ENCAP_TYPE, RTA_ENCAP)
_ABSENT = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV}) | _NO_FAMILY


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route. ``oif`` is a link's index, ``device`` its name for people. No gateway: on the link.

    ``onlink``: take the gateway's word that it is on that link, though no route says so. ``unreachable``: no
    way at all, of which the sender is told; ``oif`` is 0 then. ``refusal``: another type that leads nowhere,
    RTN_BLACKHOLE, PROHIBIT or THROW, which nobody of ours makes. ``ends_here``: a type whose packets are the
    node's own, RTN_LOCAL and the like, which nobody of ours makes either. ``several``: the ways of a route
    that has more than one, as the kernel tells them, and ``oif`` is 0 then; nobody of ours makes any.
    ``tos``: for packets of IPv4 with that TOS alone, and asked before a route for all, which has 0 as ours.
    """

    destination: Network
    oif: int
    table: int = MAIN
    gateway: Address | None = None
    onlink: bool = field(default=False, compare=False)
    device: str = field(default="", compare=False)
    unreachable: bool = False
    refusal: int = 0
    ends_here: int = 0
    tos: int = 0
    besides: bytes = field(default=b"", repr=False)
    """What ``_BESIDES`` says of it, as the kernel tells it: how packets go by it (MTU, source, tunnel). None
    of ours says any; one that is added without takes the place of one with. A removal does not ask for it."""
    several: bytes = field(default=b"", repr=False)
    protocol: int = field(default=RTPROT_UNSPEC, compare=False)
    """Who says to have made it: RTPROT_ of linux/rtnetlink.h, or a routing daemon's own number."""

    def __str__(self) -> str:
        if self.refusal:
            return f"{_REFUSALS[self.refusal]} {self.destination} table {self.table}"
        if self.ends_here:
            device = self.device or self.oif
            return f"{_ENDS[self.ends_here]} {self.destination} dev {device} table {self.table}"
        if self.unreachable:
            return f"unreachable {self.destination} table {self.table}"
        if self.several:
            return f"{self.destination} by several links table {self.table}"
        via = f" via {self.gateway}" if self.gateway is not None else ""
        via = f" tos {self.tos:#x}{via}" if self.tos else via
        besides = " with settings of another hand's" if self.besides else ""
        return f"{self.destination}{via} dev {self.device or self.oif} table {self.table}{besides}"


@dataclass(frozen=True, slots=True)
class Path:
    """A packet to ``destination``, from ``source`` and coming in by link ``iif`` if given (else our own)."""

    destination: Address
    source: Address | None = None
    iif: int = 0

    def __str__(self) -> str:
        source = f" from {self.source} coming in by link {self.iif}" if self.source is not None else ""
        return f"to {self.destination}{source}"


@dataclass(frozen=True, slots=True)
class Way:
    """The kernel's answer for a ``Path``: it goes out by link ``oif``, as ``table`` says.

    ``direct``: not by a gateway.
    """

    oif: int
    table: int
    direct: bool = True


def add(route: Route) -> Request:
    """A route to the same destination in the same table is replaced."""
    return Request(Kind.NEWROUTE, wire.CREATE | wire.REPLACE, _body(route, PROTOCOL), "add route", route)


def delete(route: Route) -> Request:
    """Exactly this route, whoever made it; done if it is not there."""
    return Request(Kind.DELROUTE, 0, _body(route, RTPROT_UNSPEC), "delete route", route, _ABSENT)


def lookup(path: Path) -> Request:
    """Ask the kernel to route one packet; see ``way``. No answer if it would not."""
    packed = path.destination.packed
    bits = 8 * len(packed)
    # IPv6 always says which table, and refuses the wish to be told.
    family, flags = (AF_INET, RTM_F_LOOKUP_TABLE) if bits == 32 else (AF_INET6, 0)
    body = _RTMSG.pack(family, bits, bits if path.source is not None else 0, 0, 0, 0, 0, 0, flags)
    body += wire.attribute(RTA_DST, packed)
    if path.source is not None:
        body += wire.attribute(RTA_SRC, path.source.packed)
    if path.iif:
        body += wire.attribute_u32(RTA_IIF, path.iif)
    return Request(Kind.GETROUTE, 0, body, "route a packet", path, _NO_WAY | _NO_FAMILY)


def way(message: Message | None) -> Way | None:
    """None for what is delivered here, rejected, or sent by several links."""
    if message is None:
        return None
    found = wire.attributes(message.body, _RTMSG.size)
    if message.body[_TYPE_OFFSET] != RTN_UNICAST or RTA_OIF not in found:
        return None
    table = found.get(RTA_TABLE)
    return Way(
        wire.u32(found[RTA_OIF]),
        wire.u32(table) if table is not None else message.body[_TABLE_OFFSET],
        direct=RTA_GATEWAY not in found,
    )


def is_local(message: Message | None) -> bool:
    """The answer to a look-up says: for this namespace itself."""
    return message is not None and message.body[_TYPE_OFFSET] == RTN_LOCAL


def decode(message: Message) -> Route | None:
    """None for what neither leads nowhere, nor ends here, nor is a unicast route through links."""
    family, bits, _, tos, table, protocol, _, kind, flags = _RTMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _RTMSG.size)
    nowhere = kind == RTN_UNREACHABLE or kind in _REFUSALS
    several = found.get(RTA_MULTIPATH, b"")
    if not nowhere and ((kind != RTN_UNICAST and kind not in _ENDS) or not (RTA_OIF in found or several)):
        return None
    destination = found.get(RTA_DST)
    gateway = found.get(RTA_GATEWAY)
    return Route(
        destination=wire.everywhere(family) if destination is None else wire.network(destination, bits),
        # IPv6 says that the unreachable is by the loopback.
        oif=0 if nowhere or several else wire.u32(found[RTA_OIF]),
        table=wire.u32(found[RTA_TABLE]) if RTA_TABLE in found else table,
        gateway=None if gateway is None else wire.address(gateway),
        onlink=bool(flags & RTNH_F_ONLINK),
        unreachable=kind == RTN_UNREACHABLE,
        refusal=kind if kind in _REFUSALS else 0,
        ends_here=kind if kind in _ENDS else 0,
        tos=tos,
        besides=b"".join(found.get(kind, b"") for kind in _BESIDES),
        several=several,
        protocol=protocol,
    )


def list_table(socket: Socket, family: int, table: int) -> list[Route]:
    """The unicast and unreachable routes of one table; none if there is no such table, or no such family."""
    found = listing(family, table).ask(socket)
    return [route for route in found if route is not None and route.table == table]


def list_all(socket: Socket, family: int) -> list[Route]:
    """The unicast and unreachable routes of every table; none of a family that the kernel has not got."""
    return [one for one in listing(family, 0).ask(socket) if one is not None]


def listing(family: int, table: int) -> Listing[Route | None]:
    """Before Linux 4.20 the kernel answers with those of other tables too. ``table`` 0: of all."""
    body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + wire.attribute_u32(RTA_TABLE, table)
    absent = _NO_FAMILY | {errno.ENOENT}
    request = Request(Kind.GETROUTE, wire.DUMP, body, "list routes", f"of table {table}", absent)
    # A kernel without the family answers with the routes of others.
    return Listing(request, decode, lambda one: one.kind == Kind.NEWROUTE and one.body[0] == family, _lease)


def _lease(body: bytes) -> tuple[Span, ...]:
    """The time that a route has left which a router told of."""
    places = wire.places(body, _RTMSG.size) if body[0] == AF_INET6 else ()
    return tuple((begins, ends) for kind, begins, ends in places if kind == RTA_CACHEINFO)


def _body(route: Route, protocol: int) -> bytes:
    packed = route.destination.network_address.packed
    bits = route.destination.prefixlen
    family = wire.family_of(route.destination)
    flags = RTNH_F_ONLINK if route.onlink else 0
    table = route.table if route.table < 256 else 0
    kind = route.refusal or route.ends_here or (RTN_UNREACHABLE if route.unreachable else RTN_UNICAST)
    scope = SCOPE_LINK if route.gateway is None and kind == RTN_UNICAST else SCOPE_UNIVERSE
    if route.ends_here:
        scope = SCOPE_HOST if kind == RTN_LOCAL else SCOPE_LINK
    if protocol == RTPROT_UNSPEC:  # a removal: of whatever scope
        scope = SCOPE_NOWHERE
    body = _RTMSG.pack(family, bits, 0, route.tos, table, protocol, scope, kind, flags)
    if bits:
        body += wire.attribute(RTA_DST, packed)
    if route.gateway is not None:
        body += wire.attribute(RTA_GATEWAY, route.gateway.packed)
    if route.several:
        body += wire.attribute(RTA_MULTIPATH, route.several)
    elif kind == RTN_UNICAST or route.ends_here:
        body += wire.attribute_u32(RTA_OIF, route.oif)
    elif family == AF_INET6 and protocol == RTPROT_UNSPEC:
        # Of a removal IPv6 looks at the link and not at the type: without it another route might go.
        body += wire.attribute_u32(RTA_OIF, _LOOPBACK)
    return body + wire.attribute_u32(RTA_TABLE, route.table)
