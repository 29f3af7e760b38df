"""Permanent neighbours, and what the kernel has learned of others.

Source: linux/neighbour.h; struct ndmsg is family, pad, index, state, flags, type.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from socket import AF_INET6, AF_UNSPEC

from datapath.netlink import wire
from datapath.netlink.memory import Listing, Span
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Kind, Message, Request

_NDMSG = struct.Struct("=BxxxiHBB")
NDA_DST = 1
NDA_LLADDR = 2
NDA_IFINDEX = 8
NUD_PERMANENT = 0x80
NUD_NONE = 0
_KNOWN = NUD_PERMANENT | 0x40 | 0x02 | 0x04 | 0x08 | 0x10
"""States with a MAC to send to: also NOARP, REACHABLE, STALE, DELAY and PROBE."""
_NTF_USE = 0x01
_MAC = struct.pack("=HH", 4 + 6, NDA_LLADDR)
_DST_AND_MAC = {4: (struct.pack("=HH", 8, NDA_DST), _MAC), 16: (struct.pack("=HH", 20, NDA_DST), _MAC)}
"""What a message begins with, if the neighbour has a MAC of six bytes: by the address's length."""
_ABSENT = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EAFNOSUPPORT})
"""The last one: the kernel has no such family (IPv6 with ``ipv6.disable=1``)."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """``address`` on link ``index`` has ``mac``, for good: nobody is asked, and nobody can say otherwise."""

    address: Address
    mac: str
    index: int
    device: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.address} lladdr {self.mac} dev {self.device or self.index}"


def add(neighbour: Neighbour) -> Request:
    """What was known of the address before is replaced."""
    body = _head(neighbour) + wire.attribute(NDA_LLADDR, wire.mac_bytes(neighbour.mac))
    return Request(Kind.NEWNEIGH, wire.CREATE | wire.REPLACE, body, "add neighbour", neighbour)


def delete(neighbour: Neighbour) -> Request:
    return Request(Kind.DELNEIGH, 0, _head(neighbour), "delete neighbour", neighbour, _ABSENT)


def decode(message: Message) -> Neighbour | None:
    """None for what is learned or incomplete."""
    _, index, state, _, _ = _NDMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _NDMSG.size)
    if not state & NUD_PERMANENT or NDA_DST not in found or NDA_LLADDR not in found:
        return None
    return Neighbour(wire.address(found[NDA_DST]), wire.mac_text(found[NDA_LLADDR]), index)


def decode_changed(message: Message) -> Neighbour | None:
    """Which it is, without a MAC: of one that is no more the kernel tells none, nor that it was permanent."""
    _, index, _, _, _ = _NDMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _NDMSG.size)
    return Neighbour(wire.address(found[NDA_DST]), "", index) if NDA_DST in found else None


def list_permanent(socket: Socket, index: int = 0) -> list[Neighbour]:
    """Of one link, or of all (0)."""
    found = listing(index).ask(socket)
    return [one for one in found if one is not None and index in (0, one.index)]


def listing(index: int = 0) -> Listing[Neighbour | None]:
    """Also what is learned, as None. Of one link, or of all (0)."""
    body = _NDMSG.pack(AF_UNSPEC, 0, 0, 0, 0)
    if index:
        body += wire.attribute_u32(NDA_IFINDEX, index)
    subject = f"of link {index}" if index else "all"
    request = Request(Kind.GETNEIGH, wire.DUMP, body, "list neighbours", subject)
    return Listing(request, decode, changing=_times)


def _times(body: bytes) -> tuple[Span, ...]:
    """Those of its use, which change with each packet, stand behind its address and its MAC."""
    address = 16 if body[0] == AF_INET6 else 4
    end = _NDMSG.size + 4 + address + 4 + 6
    heads = body[_NDMSG.size : _NDMSG.size + 4], body[end - 10 : end - 6]
    return ((end, len(body)),) if heads == _DST_AND_MAC[address] else ()


def ask(socket: Socket, address: Address, index: int) -> str | None:
    """What ``mac_of`` says, once the kernel has set out to find the neighbour or to make sure of it.

    It does so as if it had a packet, and the answer is for the next time unless it comes at once. A permanent
    neighbour stays as it is: since Linux 5.16 (commit 3dc20f4762c6) asking would make it one that is learned.
    """
    state, mac = _look_up(socket, address, index)
    if state & NUD_PERMANENT:
        return mac
    socket.one(_use(address, index))
    return mac_of(socket, address, index)


def _use(address: Address, index: int) -> Request:
    body = _NDMSG.pack(wire.family_of(address), index, NUD_NONE, _NTF_USE, 0)
    body += wire.attribute(NDA_DST, address.packed)
    return Request(Kind.NEWNEIGH, wire.CREATE, body, "ask for neighbour", f"{address} dev {index}")


def mac_of(socket: Socket, address: Address, index: int) -> str | None:
    """What the kernel would send to now, None while it does not know.

    Linux 5.0 and later answer; on older ones it is None.
    """
    return _look_up(socket, address, index)[1]


def _look_up(socket: Socket, address: Address, index: int) -> tuple[int, str | None]:
    """State and MAC; NUD_NONE and None for who is not there."""
    body = _NDMSG.pack(wire.family_of(address), index, NUD_NONE, 0, 0)
    body += wire.attribute(NDA_DST, address.packed)
    unknown = _ABSENT | {errno.EOPNOTSUPP, errno.EINVAL}
    request = Request(Kind.GETNEIGH, 0, body, "look up neighbour", f"{address} dev {index}", unknown)
    answer = socket.one(request)
    if answer is None:
        return NUD_NONE, None
    _, _, state, _, _ = _NDMSG.unpack_from(answer.body)
    found = wire.attributes(answer.body, _NDMSG.size).get(NDA_LLADDR)
    return state, wire.mac_text(found) if found is not None and state & _KNOWN else None


def _head(neighbour: Neighbour) -> bytes:
    family = wire.family_of(neighbour.address)
    head = _NDMSG.pack(family, neighbour.index, NUD_PERMANENT, 0, 0)
    return head + wire.attribute(NDA_DST, neighbour.address.packed)
