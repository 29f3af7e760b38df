"""What the registers of nf_tables hold while a rule is read: which field of the packet, and under what mask.

16 registers of four bytes; the four old names of 16 bytes each lie over them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

_OLD_NAMES = range(1, 5)
_FIRST_NEW = 8
_SLOT_BYTES = 4


class Field(Enum):
    DEVICE = auto()
    """The name of the device, in or out."""
    FAMILY = auto()
    ETHERTYPE = auto()
    CONNECTION = auto()
    """State bits of conntrack."""
    DESTINATION_TYPE = auto()
    HEADER = auto()
    """Bytes of the network header, from ``offset`` on."""


@dataclass(frozen=True, slots=True)
class Held:
    field: Field
    length: int
    offset: int = 0
    mask: bytes | None = None


class Registers:
    """By number as in messages. What is not known to be held is not held."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}

    def put(self, register: int, held: Held) -> None:
        first = _slot(register)
        end = first + -(-held.length // _SLOT_BYTES)
        for slot, other in list(self._held.items()):
            if slot < end and first < slot + -(-other.length // _SLOT_BYTES):
                del self._held[slot]
        self._held[first] = held

    def get(self, register: int) -> Held | None:
        return self._held.get(_slot(register))

    def masked(self, source: int, target: int, mask: bytes) -> None:
        """``target`` becomes ``source`` under a mask."""
        held = self.get(source)
        if held is None:
            self.forget()
            return
        before = held.mask or b"\xff" * held.length
        both = bytes(one & other for one, other in zip(before, mask, strict=False))
        self.put(target, replace(held, mask=both.ljust(held.length, b"\0")))

    def forget(self) -> None:
        """Something wrote somewhere."""
        self._held.clear()


def _slot(register: int) -> int:
    if register in _OLD_NAMES:
        return (register - 1) * 4
    return register - _FIRST_NEW
