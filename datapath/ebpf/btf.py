"""BTF to numpy: the shape of what a BPF program shares with Python, read from the program itself.

A struct is written once, in C. ``Btf.dtype`` turns a type id into a numpy dtype of the same bytes: structs
and unions by field offset, arrays as sub-arrays, enums as integers, ``__be16`` and its kin as big-endian.
A struct with a hole is refused, because the bytes of a hole are whatever was in memory, and a hash map
compares them: padding has to be a named field.

Source of the format: Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")


class BtfError(Exception):
    """The type information is damaged, or says something that Python cannot share safely."""


class _Kind(IntEnum):
    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_ALIASES = frozenset((_Kind.VOLATILE, _Kind.CONST, _Kind.RESTRICT, _Kind.TYPE_TAG, _Kind.VAR))
_FIXED_TAIL = {_Kind.INT: 4, _Kind.ARRAY: 12, _Kind.VAR: 4, _Kind.DECL_TAG: 4}
_ITEM_SIZE = {
    _Kind.STRUCT: 12,
    _Kind.UNION: 12,
    _Kind.ENUM: 8,
    _Kind.FUNC_PROTO: 8,
    _Kind.DATASEC: 12,
    _Kind.ENUM64: 12,
}
_SIGNED, _BOOL = 1, 4


@dataclass(frozen=True, slots=True)
class _Type:
    """One record. ``reference`` is a size or a type id, as the kind has it; ``tail`` what follows it."""

    kind: _Kind
    name: str
    count: int
    flag: bool
    reference: int
    tail: bytes


class Btf:
    """The types of one object or map. Ids are those of the raw bytes, so of libbpf and the kernel as well."""

    def __init__(self, raw: bytes) -> None:
        """Raises BtfError if ``raw`` is not little-endian BTF."""
        if len(raw) < _HEADER.size:
            raise BtfError(f"{len(raw)} bytes are too few for BTF")
        magic, _, _, header, type_offset, type_length, text_offset, text_length = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise BtfError(f"BTF starts with {_MAGIC:#x}, not with {magic:#x}")
        self._text = raw[header + text_offset : header + text_offset + text_length]
        self._types = self._parse(raw[header + type_offset : header + type_offset + type_length])
        self.dtype = cache(self._dtype)

    def type_id(self, name: str) -> int:
        """The id of the struct, union, enum or typedef of that name. Raises BtfError if there is none."""
        named = {_Kind.STRUCT, _Kind.UNION, _Kind.ENUM, _Kind.ENUM64, _Kind.TYPEDEF, _Kind.DATASEC}
        for number, each in enumerate(self._types):
            if each.name == name and each.kind in named:
                return number
        raise BtfError(f"no type is called {name!r}")

    def enum(self, name: str) -> dict[str, int]:
        """The names and values of an enum, in the order of the source."""
        found = self._types[self.type_id(name)]
        if found.kind is _Kind.ENUM64:
            items = (struct.unpack_from("<IQ", found.tail, 12 * i) for i in range(found.count))
        elif found.kind is _Kind.ENUM:
            items = (struct.unpack_from("<Ii", found.tail, 8 * i) for i in range(found.count))
        else:
            raise BtfError(f"{name} is a {found.kind.name.lower()}, not an enum")
        return {self._string(offset): value for offset, value in items}

    def _parse(self, raw: bytes) -> list[_Type]:
        types = [_Type(_Kind.VOID, "", 0, False, 0, b"")]
        position = 0
        while position < len(raw):
            name, info, reference = _TYPE.unpack_from(raw, position)
            position += _TYPE.size
            kind, count = _Kind(info >> 24 & 0x1F), info & 0xFFFF
            length = _FIXED_TAIL.get(kind, 0) + _ITEM_SIZE.get(kind, 0) * count
            tail = raw[position : position + length]
            types.append(_Type(kind, self._string(name), count, bool(info >> 31), reference, tail))
            position += length
        return types

    def _string(self, offset: int) -> str:
        return self._text[offset : self._text.index(b"\0", offset)].decode()

    def _dtype(self, type_id: int) -> np.dtype[Any]:
        """The numpy dtype of a type: exactly its bytes.

        Raises BtfError for a hole, a bit field, a pointer, or anything else that has no meaning outside.
        """
        found = self._types[type_id]
        if found.kind in _ALIASES:
            return self.dtype(found.reference)
        if found.kind is _Kind.TYPEDEF:
            inner = self.dtype(found.reference)
            return inner.newbyteorder(">") if found.name.startswith("__be") else inner
        if found.kind is _Kind.INT:
            return _integer(found)
        if found.kind in (_Kind.ENUM, _Kind.ENUM64):
            return np.dtype(f"<{'i' if found.flag else 'u'}{found.reference}")
        if found.kind is _Kind.ARRAY:
            element, _, length = struct.unpack("<III", found.tail)
            return np.dtype((self.dtype(element), (length,)))
        if found.kind in (_Kind.STRUCT, _Kind.UNION, _Kind.DATASEC):
            return self._record(found)
        raise BtfError(f"{found.name or found.kind.name.lower()} has no meaning outside the program")

    def _record(self, found: _Type) -> np.dtype[Any]:
        fields = [self._field(found, index) for index in range(found.count)]
        if found.kind is _Kind.STRUCT:
            _require_packed(found, fields)
        return np.dtype(
            {
                "names": [name for name, _, _ in fields],
                "formats": [kind for _, kind, _ in fields],
                "offsets": [offset for _, _, offset in fields],
                "itemsize": found.reference,
            }
        )

    def _field(self, found: _Type, index: int) -> tuple[str, np.dtype[Any], int]:
        first, second, third = struct.unpack_from("<III", found.tail, 12 * index)
        if found.kind is _Kind.DATASEC:  # (variable, byte offset, size)
            return self._types[first].name, self.dtype(first), second
        name, bits, width = self._string(first), third, 0
        if found.flag:
            bits, width = third & 0xFFFFFF, third >> 24
        if width or bits % 8:
            raise BtfError(f"{found.name}.{name} is a bit field")
        return name, self.dtype(second), bits // 8


def _integer(found: _Type) -> np.dtype[Any]:
    encoding = found.tail[3]
    if encoding & _BOOL:
        return np.dtype(np.bool_)
    if found.reference > 8:
        raise BtfError(f"{found.name} is too wide for numpy")
    return np.dtype(f"<{'i' if encoding & _SIGNED else 'u'}{found.reference}")


def _require_packed(found: _Type, fields: list[tuple[str, np.dtype[Any], int]]) -> None:
    end = 0
    for name, kind, offset in fields:
        if offset != end:
            raise BtfError(f"struct {found.name} has a hole before {name}: name the padding")
        end = offset + kind.itemsize
    if end != found.reference:
        raise BtfError(
            f"struct {found.name} ends with {found.reference - end} unnamed bytes: name the padding"
        )
