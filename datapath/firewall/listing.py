"""Nested lists of nf_tables messages: expressions and the attributes in them. Pure.

Source: linux/netfilter/nf_tables.h. Attributes that are integers are in network byte order; data that is
compared with a register is as the register has it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from datapath.netlink import wire

_LIST_ELEM = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_DATA_VALUE = 1
_ATTRIBUTE = struct.Struct("=HH")

Attributes = dict[int, bytes]


def number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def elements(data: bytes) -> Iterator[bytes]:
    """The members of a list; ``wire.attributes`` would keep the last one only."""
    for kind, value in pairs(data):
        if kind == _LIST_ELEM:
            yield value


def pairs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes with their numbers, in order."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & ~wire.NLA_F_NESTED, data[offset + 4 : offset + length]
        offset += wire.aligned(length)


def expressions(data: bytes) -> Iterator[tuple[str, Attributes]]:
    """Name and attributes of each expression of a rule, in the order of their work."""
    for element in elements(data):
        found = wire.attributes(element)
        yield wire.text(found.get(_EXPR_NAME, b"")), wire.attributes(found.get(_EXPR_DATA, b""))


def value(data: bytes) -> bytes:
    """The bytes in a nested piece of data; empty if it holds a verdict."""
    return wire.attributes(data).get(_DATA_VALUE, b"")
