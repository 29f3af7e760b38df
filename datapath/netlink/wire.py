"""Headers and attributes of netlink messages: values to bytes and back, no sockets.

Source: linux/netlink.h and linux/rtnetlink.h; netlink(7). All integers are in host byte order unless an
object's file says otherwise; everything is padded to four bytes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ATTRIBUTE_U32 = struct.Struct("=HHI")
_ERRNO = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1


class Kind(IntEnum):
    """nlmsg_type of the requests that this package makes and of their answers."""

    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    SETLINK = 19
    NEWADDR = 20
    DELADDR = 21
    GETADDR = 22
    NEWROUTE = 24
    DELROUTE = 25
    GETROUTE = 26
    NEWNEIGH = 28
    DELNEIGH = 29
    GETNEIGH = 30
    NEWRULE = 32
    DELRULE = 33
    GETRULE = 34


REQUEST = 0x1
MULTI = 0x2
ACK = 0x4
DUMP_INTR = 0x10
DUMP = 0x300
REPLACE = 0x100
EXCL = 0x200
CREATE = 0x400


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel. ``verb`` and ``subject`` name it in errors: "add route", "10.0.1.5/32 ...".

    ``kind`` is a ``Kind``, or a number of another subsystem's. Errnos in ``done_if`` mean that the wish was
    true already (ENOENT for a removal, say).
    """

    kind: int
    flags: int
    body: bytes
    verb: str
    subject: object
    done_if: frozenset[int] = field(default=frozenset())

    def also_done_if(self, *numbers: int) -> Request:
        """The same, content with more errnos."""
        return replace(self, done_if=self.done_if.union(numbers))

    def strictly(self) -> Request:
        """The same, of which a wish that was true already is an error."""
        return replace(self, done_if=frozenset())


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel, header taken off."""

    kind: int
    flags: int
    sequence: int
    body: bytes

    def error(self) -> tuple[int, str]:
        """Errno (0: an acknowledgement) and the kernel's own words of an NLMSG_ERROR or NLMSG_DONE."""
        number = -_ERRNO.unpack_from(self.body)[0] if len(self.body) >= 4 else 0
        if not self.flags & NLM_F_ACK_TLVS or not number:
            return number, ""
        return number, text(attributes(self.body, self._extended_ack_offset()).get(NLMSGERR_ATTR_MSG, b""))

    def _extended_ack_offset(self) -> int:
        if self.kind == NLMSG_DONE:
            return 4
        (length,) = struct.unpack_from("=I", self.body, 4)
        return 4 + (HEADER.size if self.flags & NLM_F_CAPPED else aligned(length))


def aligned(length: int) -> int:
    return (length + 3) & ~3


def encode(requests: tuple[Request, ...], first_sequence: int, *, acknowledged: bool = True) -> bytes:
    """A batch, numbered from ``first_sequence``. Only the last asks for an acknowledgement, if any does.

    The kernel works in order and reports an error whether asked or not, so the last answer ends the batch.
    """
    parts = []
    last = len(requests) - 1
    for number, request in enumerate(requests):
        flags = request.flags | REQUEST | (ACK if acknowledged and number == last else 0)
        length = HEADER.size + len(request.body)
        parts.append(HEADER.pack(length, request.kind, flags, first_sequence + number, 0))
        parts.append(request.body)
        parts.append(_PADDING[length & 3])
    return b"".join(parts)


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram. A truncated tail is left out."""
    offset = 0
    end = len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            return
        yield Message(kind, flags, sequence, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + _PADDING[length & 3]


def attribute_u32(kind: int, value: int) -> bytes:
    return _ATTRIBUTE_U32.pack(8, kind, value)


def attribute_text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes from ``offset`` on, by number; of a number that comes twice the last one counts."""
    found = {}
    unpack = _ATTRIBUTE.unpack_from
    end = len(data) - 4
    # The busiest loop of an ADD, as a link has some fifty attributes: no calls in it but the one.
    while offset <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def places(data: bytes, offset: int) -> Iterator[tuple[int, int, int]]:
    """Number of each attribute from ``offset`` on, where it begins, and where the next one does."""
    end = len(data) - 4
    while offset <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        following = offset + ((length + 3) & ~3)
        yield kind & _NLA_TYPE_MASK, offset, following
        offset = following


def u32(value: bytes) -> int:
    return int.from_bytes(value[:4], sys.byteorder)


def text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(value: bytes) -> str:
    return value.hex(":")


def family_of(value: Address | Network) -> int:
    return AF_INET if value.version == 4 else AF_INET6


def address(value: bytes) -> Address:
    """4 bytes or 16 bytes in network order."""
    return IPv4Address(value) if len(value) == 4 else IPv6Address(value)


def network(value: bytes, prefix_length: int) -> Network:
    """Without host bits: the kernel takes no route with any, and keeps those of a rule as it was told."""
    if len(value) == 4:
        return IPv4Network((value, prefix_length), strict=False)
    return IPv6Network((value, prefix_length), strict=False)


_EVERYWHERE_4, _EVERYWHERE_6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")


def everywhere(family: int) -> Network:
    return _EVERYWHERE_4 if family == AF_INET else _EVERYWHERE_6


@lru_cache(maxsize=1024)
def host_network(value: Address) -> Network:
    """The /32 or /128 of one address. Kept, as one ADD needs it several times and making it takes 3 µs."""
    return IPv4Network(value) if isinstance(value, IPv4Address) else IPv6Network(value)
