"""What the kernel holds of a fast path, for whoever looks: maps, their rows, programs and where they are.

Everything is read from the pins and from the kernel, nothing from memory: what is said here is what packets
meet, also if somebody else has changed it. Sources: bpf(2), Documentation/filesystems/proc.rst (fdinfo).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapath import sysctl
from datapath.acceleration import bpf_call, tc
from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.bpf_call import ProgramInfo
from datapath.acceleration.eni_links import links_in
from datapath.acceleration.human import Json, Reader
from datapath.acceleration.layout import MAPS, PROGRAMS, Names
from datapath.acceleration.rows import keys_of
from datapath.acceleration.tc import Place, Side
from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf
from datapath.ebpf.table import Table
from datapath.errors import KernelError
from datapath.netlink import link
from datapath.netlink.socket import Socket

_KINDS = {1: "hash", 2: "array", 6: "percpu_array", 9: "lru_hash", 11: "lpm_trie", 27: "ringbuf"}
"""enum bpf_map_type, of the kinds that the programs use, in bpftool's words."""
_RING = "ringbuf"
_ARRAYS = frozenset({"array", "percpu_array"})
_ENOTSUPP = 524
_NO_BATCH = frozenset({errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP})


@dataclass(frozen=True, slots=True)
class MapFacts:
    """``entries``: rows there are, None for a ring buffer. ``memory`` in bytes, 0 if it is not told."""

    name: str
    id: int
    kind: str
    path: Path
    key_size: int
    value_size: int
    max_entries: int
    entries: int | None
    memory: int


@dataclass(frozen=True, slots=True)
class MapRow:
    """As ``human`` writes it."""

    key: Json
    value: Json


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program at a device. ``how``: ``block``, ``tcx`` or ``clsact``."""

    program_id: int
    ifindex: int
    side: Side
    how: str


class Inspection:
    """``directory`` is FastPath's; ``netns`` the node's, None for the process's own. Raises KernelError."""

    def __init__(self, directory: Path, names: Names, netns: int | None = None) -> None:
        self._directory = directory
        self._names = names
        self._netns = netns

    def maps(self) -> tuple[MapFacts, ...]:
        return tuple(map(self._map, self._names_there()))

    def kinds(self) -> dict[str, str]:
        """What each map is, by name; as ``MapFacts.kind``."""
        found = {}
        for name in self._names_there():
            with self._opened(name) as fd:
                found[name] = _kind(_fdinfo(fd))
        return found

    def rows(self, name: str) -> list[MapRow]:
        """All of a map, in the kernel's order. Of the ring buffer there are none: see ``trace``."""
        with self._opened(name) as fd:
            if _kind(_fdinfo(fd)) == _RING:
                return []
            table = Table(fd, libbpf.map_shape_of(fd), Btf(libbpf.map_btf_of(fd)))
            reader = Reader(name, self._names)
            value = reader.value_per_cpu if table.shape.per_cpu else reader.value
            return [MapRow(reader.key(key), value(row)) for key, row in _rows(table)]

    def programs(self) -> tuple[ProgramInfo, ...]:
        """Those that are pinned; see ``program`` for others that are attached."""
        found = []
        for name in PROGRAMS:
            with self._opened(f"prog_{name}") as fd:
                found.append(bpf_call.program_info(fd))
        return tuple(found)

    def program(self, number: int) -> ProgramInfo:
        """By the kernel's id."""
        fd = bpf_call.program_by_id(number)
        try:
            return bpf_call.program_info(fd)
        finally:
            os.close(fd)

    def devices(self) -> dict[int, str]:
        """Names by index."""
        with Socket(self._netns) as netlink:
            return {found.index: found.name for found in link.list_all(netlink)}

    def attachments(self) -> tuple[Attachment, ...]:
        """All that is ours, wherever it is, with the programs that are there now."""
        with Socket(self._netns) as netlink:
            return (*_filters(netlink), *self._links())

    def _names_there(self) -> list[str]:
        return [name for name in MAPS if (self._directory / name).exists()]

    def _map(self, name: str) -> MapFacts:
        with self._opened(name) as fd:
            shape, told = libbpf.map_shape_of(fd), _fdinfo(fd)
            kind = _kind(told)
            return MapFacts(
                name=name,
                id=int(told.get("map_id", 0)),
                kind=kind,
                path=self._directory / name,
                key_size=shape.key_size,
                value_size=shape.value_size,
                max_entries=shape.max_entries,
                entries=_entries(fd, kind),
                memory=int(told.get("memlock", 0)),
            )

    def _links(self) -> Iterator[Attachment]:
        for side in Side:
            for found in links_in(self._directory.parent / "links", side):
                yield Attachment(found.program_id, found.ifindex, side, "tcx")

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        with _pinned(self._directory / name) as fd:
            yield fd


def run_statistics() -> bool:
    """Whether the kernel counts and times the runs of programs: sysctl kernel.bpf_stats_enabled."""
    try:
        return sysctl.read("kernel/bpf_stats_enabled") != "0"
    except KernelError:  # before Linux 5.1
        return False


def _filters(netlink: Socket) -> Iterator[Attachment]:
    shared = {
        Side.INGRESS: tc.program_at(netlink, Place.block(BLOCKS.ingress)),
        Side.EGRESS: tc.program_at(netlink, Place.block(BLOCKS.egress)),
    }
    for ifindex, blocks in sorted(tc.list_clsact(netlink).items()):
        for side in Side:
            how = "block" if blocks == BLOCKS else "clsact"
            here = shared[side] if blocks == BLOCKS else tc.program_at(netlink, Place.device(ifindex, side))
            if here is not None:
                yield Attachment(here, ifindex, side, how)


def _entries(fd: int, kind: str) -> int | None:
    if kind == _RING:
        return None
    shape = libbpf.map_shape_of(fd)
    if kind in _ARRAYS:
        return shape.max_entries
    try:
        return len(libbpf.map_dump(fd, shape)[0]) // shape.key_size
    except KernelError as exc:
        if exc.errno not in _NO_BATCH:
            raise
    return len(libbpf.map_keys(fd, shape.key_size))


def _rows(table: Table) -> Iterator[tuple[Any, Any]]:
    """Keys and values. In one call where the kernel can: key by key, a busy map may go round in circles."""
    try:
        keys, values = table.dump()
    except KernelError as exc:
        if exc.errno not in _NO_BATCH:
            raise
        yield from _walked(table)
    else:
        yield from zip(keys, values, strict=True)


def _walked(table: Table) -> Iterator[tuple[Any, Any]]:
    for raw in libbpf.map_keys(table.fd, table.shape.key_size):
        key = keys_of(table, [raw])
        value = table.get(key)
        if value is not None:
            yield key[0], value if table.shape.per_cpu else value[0]


def _kind(fdinfo: dict[str, str]) -> str:
    return _KINDS.get(int(fdinfo["map_type"]), f"type {fdinfo['map_type']}")


def _fdinfo(fd: int) -> dict[str, str]:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@contextmanager
def _pinned(path: Path) -> Iterator[int]:
    fd = libbpf.open_pinned(str(path))
    try:
        yield fd
    finally:
        os.close(fd)
