"""A table of iptables-legacy as the kernel hands it out: one run of entries, read only where asked. Pure.

An entry is the match on addresses and devices, more matches, and a target. A chain of a hook begins and ends
where the table's header says; a chain of the user begins behind an entry whose target is called ERROR and
bears its name, and is jumped to by the offset of its first entry.
Source: linux/netfilter/x_tables.h, netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h; host byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from datapath.firewall import extension
from datapath.firewall.addresses import BITS, Addresses
from datapath.firewall.rule import (
    Act,
    Base,
    Chain,
    Family,
    From,
    Jump,
    Names,
    Rule,
    Source,
    Step,
    Table,
    Through,
    To,
    What,
)

INFO = struct.Struct("=32sI5I5III")
"""struct ipt_getinfo: name, hooks, where each begins, where its policy is, entries, bytes."""

_HOOKS = {0: "PREROUTING", 2: "FORWARD", 4: "POSTROUTING"}

_IN, _OUT, _SRC, _DST = 0x01, 0x02, 0x08, 0x10
_EXTENSION = struct.Struct("=H29sB")
_VERDICT = struct.Struct("=i")
_OFFSETS = struct.Struct("=HH")
_ERROR_BYTES = 64
"""struct xt_error_target."""
_NF_DROP, _NF_QUEUE = 0, 3


@dataclass(frozen=True, slots=True)
class _Form:
    """Where things are in an entry: struct ipt_entry or ip6t_entry."""

    version: int
    devices: int
    inverted: int
    offsets: int
    """Two of 16 bits: to the target, and to the next entry."""
    matches: int


_FORMS = {Family.IP: _Form(4, 16, 83, 88, 112), Family.IP6: _Form(6, 64, 132, 140, 168)}


@dataclass(frozen=True, slots=True)
class Header:
    """``begins`` and ``policies``: offsets by hook number."""

    hooks: int
    begins: tuple[int, ...]
    policies: tuple[int, ...]
    size: int

    @staticmethod
    def decode(data: bytes) -> Header:
        _, hooks, *numbers = INFO.unpack(data)
        return Header(hooks, tuple(numbers[:5]), tuple(numbers[5:10]), numbers[11])


class Blob:
    """``family`` is ip or ip6. Chains are known by name once a jump to them was read."""

    def __init__(self, family: Family, name: str, *, header: Header, entries: bytes) -> None:
        self.table = Table(Source.LEGACY, family, name)
        self._form = _FORMS[family]
        self._header = header
        self._entries = entries
        self._begins = {_HOOKS[hook]: header.begins[hook] for hook in _HOOKS if header.hooks >> hook & 1}

    def bases(self) -> list[Base]:
        found = []
        for hook, name in _HOOKS.items():
            if self._header.hooks >> hook & 1:
                policy = self._verdict(self._header.policies[hook])
                found.append(Base(Chain(self.table, name), policy == -_NF_DROP - 1))
        return found

    def rules(self, chain: Chain) -> list[Rule]:
        """Those of a chain that is a hook's or was jumped to; a policy is not among them."""
        offsets = self._chain(self._begins[chain.name])
        return [Rule(number, tuple(self._steps(at))) for number, at in enumerate(offsets, 1)]

    def _chain(self, begin: int) -> Iterator[int]:
        at = begin
        while at < self._header.size and not self._name_at(at):
            if at in self._header.policies:
                return
            yield at
            at += self._offsets(at)[1]

    def _steps(self, at: int) -> Iterator[Step]:
        yield from self._addresses(at)
        yield from self._devices(at)
        target = at + self._offsets(at)[0]
        place = at + self._form.matches
        while place < target:
            size, name, revision = self._extension(place)
            info = self._entries[place + _EXTENSION.size : place + size]
            yield from extension.match(name, revision, info)
            place += size
        yield from self._action(at, target)

    def _addresses(self, at: int) -> Iterator[Step]:
        width = BITS[self._form.version] // 8
        inverted = self._entries[at + self._form.inverted]
        for index, step, flag in ((0, From, _SRC), (1, To, _DST)):
            value, mask = (
                self._entries[at + place * width : at + (place + 1) * width] for place in (index, index + 2)
            )
            found = _network(self._form.version, value, mask)
            if found is not None:
                yield step(~found if inverted & flag else found)

    def _devices(self, at: int) -> Iterator[Step]:
        inverted = self._entries[at + self._form.inverted]
        for index, flag in ((0, _IN), (1, _OUT)):
            start = at + self._form.devices + 16 * index
            name, mask = self._entries[start : start + 16], self._entries[start + 32 : start + 48]
            if any(mask):
                # "eth0" is compared with the zero at its end, "eth+" without, and without its plus.
                compared = name[: mask.rfind(b"\xff") + 1]
                names = Names(_text(compared), prefix=b"\0" not in compared)
                yield Through(names, inverted=bool(inverted & flag))

    def _action(self, at: int, target: int) -> Iterator[Step]:
        _, name, _ = self._extension(target)
        if name:
            yield from extension.target(name)
            return
        verdict = self._verdict(at)
        if verdict == -_NF_DROP - 1:
            yield Act(What.DROP)
        elif verdict == -_NF_QUEUE - 1:
            yield Act(What.QUEUE)
        elif verdict >= 0 and verdict != at + self._offsets(at)[1]:
            yield Jump(self._learned(verdict))

    def _learned(self, begin: int) -> str:
        """The name of the user's chain that begins there."""
        head = begin - self._form.matches - _ERROR_BYTES
        name = self._name_at(head) or f"at byte {begin}"
        self._begins[name] = begin
        return name

    def _name_at(self, at: int) -> str:
        """The name in an ERROR entry; "" for another entry, and for what is none."""
        if at < 0 or at + self._form.matches + _ERROR_BYTES > self._header.size:
            return ""
        target = at + self._form.matches
        if self._offsets(at)[0] != self._form.matches or self._extension(target)[1] != "ERROR":
            return ""
        return _text(self._entries[target + _EXTENSION.size : target + _ERROR_BYTES])

    def _verdict(self, at: int) -> int:
        (verdict,) = _VERDICT.unpack_from(self._entries, at + self._offsets(at)[0] + _EXTENSION.size)
        return int(verdict)

    def _offsets(self, at: int) -> tuple[int, int]:
        """From an entry to its target, and to the next entry."""
        target, following = _OFFSETS.unpack_from(self._entries, at + self._form.offsets)
        return target, following

    def _extension(self, at: int) -> tuple[int, str, int]:
        """Size with its header, name and revision of a match or target."""
        size, name, revision = _EXTENSION.unpack_from(self._entries, at)
        return size, _text(name), revision


def _network(version: int, value: bytes, mask: bytes) -> Addresses | None:
    """None for any address, and for a mask that is no prefix."""
    bits = int.from_bytes(mask, "big")
    host = bits ^ ((1 << BITS[version]) - 1)
    if not bits or host & (host + 1):
        return None
    first = int.from_bytes(value, "big") & bits
    return Addresses.between(version, first, first | host)


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode(errors="replace")
