"""Expressions as the kernel writes them into a message, for tests."""

from __future__ import annotations

import struct

from datapath.netlink import wire


def u32(kind: int, value: int) -> bytes:
    return wire.attribute(kind, struct.pack(">I", value))


def data(kind: int, value: bytes) -> bytes:
    return wire.nested(kind, wire.attribute(1, value))


def expression(name: str, *attributes: bytes) -> bytes:
    return wire.nested(1, wire.attribute_text(1, name), wire.nested(2, *attributes))


def load_header(offset: int, length: int, register: int = 1) -> bytes:
    return expression("payload", u32(1, register), u32(2, 1), u32(3, offset), u32(4, length))


def load_meta(key: int, register: int = 1) -> bytes:
    return expression("meta", u32(2, key), u32(1, register))


def compare(value: bytes, *, register: int = 1, op: int = 0) -> bytes:
    return expression("cmp", u32(1, register), u32(2, op), data(3, value))


def masked(mask: bytes, *, source: int = 1, target: int = 1, xor: bytes = b"\0\0\0\0") -> bytes:
    size = u32(3, len(mask))
    return expression("bitwise", u32(1, source), u32(2, target), size, u32(6, 0), data(4, mask), data(5, xor))


def verdict(code: int, chain: str = "") -> bytes:
    named = wire.attribute_text(2, chain) if chain else b""
    inner = wire.nested(2, wire.attribute(1, struct.pack(">i", code)), named)
    return expression("immediate", u32(1, 0), wire.nested(2, inner))


DROP = verdict(0)
