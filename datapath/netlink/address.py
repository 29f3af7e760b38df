"""Addresses of links.

Source: linux/if_addr.h; struct ifaddrmsg is family, prefix length, flags, scope, index (u32).
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, AF_UNSPEC

from datapath.netlink import wire
from datapath.netlink.memory import Listing, Span
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Kind, Message, Request

_IFADDRMSG = struct.Struct("=BBBBI")
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_CACHEINFO = 6
IFA_FLAGS = 8
IFA_F_NODAD = 0x02
IFA_F_PERMANENT = 0x80
IFA_F_NOPREFIXROUTE = 0x200
SCOPE_LINK = 253
SCOPE_HOST = 254
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV, errno.EOPNOTSUPP})
"""The last one: the kernel has no such family (IPv6 with ``ipv6.disable=1``)."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """``address`` with ``prefix_length`` on link ``index``. ``device`` is the link's name, for people."""

    address: Address
    prefix_length: int
    index: int
    scope: int = 0
    device: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length} dev {self.device or self.index}"


def add(assigned: Assigned) -> Request:
    """Present already is fine. No duplicate detection for IPv6: the cloud hands out each address once.

    Nor a route for a link-local one, as its link has that for all of them.
    """
    return Request(Kind.NEWADDR, wire.CREATE | wire.REPLACE, _body(assigned), "add address", assigned)


def delete(assigned: Assigned) -> Request:
    return Request(Kind.DELADDR, 0, _body(assigned), "delete address", assigned, _ABSENT)


def decode(message: Message) -> Assigned:
    _, prefix_length, _, scope, index = _IFADDRMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _IFADDRMSG.size)
    value = found.get(IFA_LOCAL) or found[IFA_ADDRESS]
    return Assigned(wire.address(value), prefix_length, index, scope)


def of_link(socket: Socket, index: int) -> list[Assigned]:
    """All addresses of one link, link-local ones included."""
    body = _IFADDRMSG.pack(AF_UNSPEC, 0, 0, 0, index)
    request = Request(Kind.GETADDR, wire.DUMP, body, "list addresses", f"of link {index}")
    return [found for found in map(decode, socket.dump(request)) if found.index == index]


def list_all(socket: Socket) -> list[Assigned]:
    """Of every link of the namespace, link-local ones included."""
    return LISTING.ask(socket)


def _lease(body: bytes) -> tuple[Span, ...]:
    """The time that an address has left which is lent."""
    if body[2] & IFA_F_PERMANENT:
        return ()
    places = wire.places(body, _IFADDRMSG.size)
    return tuple((begins, ends) for kind, begins, ends in places if kind == IFA_CACHEINFO)


LISTING = Listing(
    Request(Kind.GETADDR, wire.DUMP, _IFADDRMSG.pack(AF_UNSPEC, 0, 0, 0, 0), "list addresses", "all"),
    decode,
    changing=_lease,
)
"""Every address, link-local ones included."""


def _body(assigned: Assigned) -> bytes:
    packed = assigned.address.packed
    family, flags = (AF_INET, 0) if len(packed) == 4 else (AF_INET6, IFA_F_NODAD)
    head = _IFADDRMSG.pack(family, assigned.prefix_length, flags, assigned.scope, assigned.index)
    body = head + wire.attribute(IFA_LOCAL, packed) + wire.attribute(IFA_ADDRESS, packed)
    if family == AF_INET6 and assigned.scope == SCOPE_LINK:
        body += wire.attribute_u32(IFA_FLAGS, flags | IFA_F_NOPREFIXROUTE)
    return body
