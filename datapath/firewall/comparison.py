"""A field of the packet compared with data: which packets that leaves. Pure.

Empty where nothing is proved, so that a rule seems to mean all packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from socket import AF_INET, AF_INET6

from datapath.firewall.addresses import BITS, Addresses
from datapath.firewall.registers import Field, Held
from datapath.firewall.rule import From, Names, StackOnly, Step, Through, To, Version
from datapath.netlink import wire


class Op(IntEnum):
    """NFT_CMP_*."""

    EQ = 0
    NEQ = 1
    LT = 2
    LTE = 3
    GT = 4
    GTE = 5


_VERSION_OF_FAMILY: dict[int, int] = {AF_INET: 4, AF_INET6: 6}
_VERSION_OF_ETHERTYPE = {0x0800: 4, 0x86DD: 6}

# NF_CT_STATE_INVALID_BIT: see extension.py for what a rule about it can meet.
_INVALID = 1
# RTN_LOCAL, RTN_MULTICAST
_STACK_TYPES = frozenset({2, 5})

# Of the source address in an IP header; the destination's follows it.
_SOURCE_OFFSET = {4: 12, 6: 8}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one of the addresses is in its header, in bytes."""

    step: type[From] | type[To]
    version: int
    start: int
    width: int

    def is_whole(self, held: Held) -> bool:
        return held.mask is None and (held.offset, held.length) == (self.start, self.width)


def compare(held: Held, op: Op, data: bytes, version: int | None) -> tuple[Step, ...]:
    """``version`` is the packet's, None if the rule has not said it."""
    if held.field is Field.HEADER:
        return tuple(_addresses(held, op, data, version)) if version else ()
    if held.field is Field.DEVICE:
        return _device(held, op, data)
    if held.field is Field.CONNECTION:
        return _connection(held, op, wire.u32(data))
    return _exact(held, data) if op is Op.EQ and held.mask is None else ()


def between(
    held: Held, ends: tuple[bytes, bytes], *, inverted: bool, version: int | None
) -> tuple[Step, ...]:
    """A range, both ends in it."""
    if held.field is not Field.HEADER or version is None:
        return ()
    place = _place_of(held, version)
    if place is None or not place.is_whole(held):
        return ()
    first, last = (int.from_bytes(end, "big") for end in ends)
    found = Addresses.between(version, first, last)
    return (place.step(~found if inverted else found),)


def _exact(held: Held, data: bytes) -> tuple[Step, ...]:
    version: int | None = None
    if held.field is Field.FAMILY:
        version = _VERSION_OF_FAMILY.get(data[0]) if data else None
    elif held.field is Field.ETHERTYPE:
        version = _VERSION_OF_ETHERTYPE.get(int.from_bytes(data[:2], "big"))
    elif held.field is Field.DESTINATION_TYPE and wire.u32(data) in _STACK_TYPES:
        return (StackOnly(),)
    return (Version(version),) if version else ()


def _connection(held: Held, op: Op, data: int) -> tuple[Step, ...]:
    mask = wire.u32(held.mask) if held.mask is not None else None
    any_of_mask = mask == _INVALID and ((op is Op.NEQ and not data) or (op is Op.EQ and data == _INVALID))
    exactly = mask is None and op is Op.EQ and data == _INVALID
    return (StackOnly(),) if any_of_mask or exactly else ()


def _device(held: Held, op: Op, data: bytes) -> tuple[Step, ...]:
    if op not in (Op.EQ, Op.NEQ) or held.mask is not None:
        return ()
    # A name is compared with the zero at its end, or, where it stands for all that begin so, without.
    names = Names(wire.text(data), prefix=b"\0" not in data)
    return (Through(names, inverted=op is Op.NEQ),)


def _addresses(held: Held, op: Op, data: bytes, version: int) -> tuple[Step, ...]:
    if op is Op.EQ:
        # One comparison may be of both addresses at once.
        prefixes = ((place, _prefix(held, data, place)) for place in _places(version))
        return tuple(place.step(found) for place, found in prefixes if found is not None)
    place = _place_of(held, version)
    if place is None:
        return ()
    if op is Op.NEQ:
        found = _prefix(held, data, place)
        return () if found is None else (place.step(~found),)
    if not place.is_whole(held):
        return ()
    return (place.step(_beyond(op, int.from_bytes(data, "big"), version)),)


def _prefix(held: Held, data: bytes, place: _Place) -> Addresses | None:
    """The addresses at ``place`` that compare equal; None if it is no prefix that is compared there."""
    mask, value = bytearray(place.width), bytearray(place.width)
    for index in range(min(held.length, len(data))):
        at = held.offset + index - place.start
        if 0 <= at < place.width:
            mask[at] = held.mask[index] if held.mask is not None else 0xFF
            value[at] = data[index]
    bits = int.from_bytes(mask, "big")
    host = bits ^ ((1 << 8 * place.width) - 1)
    if not bits or host & (host + 1):
        return None
    first = int.from_bytes(value, "big") & bits
    return Addresses.between(place.version, first, first | host)


def _beyond(op: Op, bound: int, version: int) -> Addresses:
    if op is Op.LT:
        return Addresses.between(version, 0, bound - 1)
    if op is Op.LTE:
        return Addresses.between(version, 0, bound)
    last = (1 << BITS[version]) - 1
    return Addresses.between(version, bound + (1 if op is Op.GT else 0), last)


def _place_of(held: Held, version: int) -> _Place | None:
    """The address that the held bytes are all of, if there is one."""
    for place in _places(version):
        if place.start <= held.offset and held.offset + held.length <= place.start + place.width:
            return place
    return None


@lru_cache
def _places(version: int) -> tuple[_Place, _Place]:
    width = BITS[version] // 8
    start = _SOURCE_OFFSET[version]
    return _Place(From, version, start, width), _Place(To, version, start + width, width)
