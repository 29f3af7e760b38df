"""The map ``stack_prefixes``: destinations that always take the stack, written as differences.

Few prefixes (``fixed``: ranges of Services, CIDRs, the node's own addresses) and up to tens of thousands of
single addresses of Services (``hosts``). A change writes the rows that it changes and no others; ``compare``
reads the whole map, in one batch from Linux 5.14 and key by key before, and puts right what somebody else has
altered.

Both may take a while with many rows, and may then be called in a thread: the writers' lock is held for a
slice at a time, so that an ADD's rows need not wait. Who comes while another is at it leaves a wish and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import Any

from datapath.acceleration.rows import StackKind, host_prefix_bytes
from datapath.ebpf import libbpf
from datapath.ebpf.table import Table
from datapath.netlink.wire import Address

SLICE = 128
"""Rows written without letting go of the lock: 0.2 ms."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be in the map. ``fixed`` goes before ``hosts``, whose kind is SERVICE."""

    fixed: Mapping[bytes, StackKind] = field(default_factory=dict)
    hosts: AbstractSet[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Compared:
    """Rows that were not as they should be, and are now."""

    missing: int = 0
    altered: int = 0
    foreign: int = 0

    def __bool__(self) -> bool:
        return bool(self.missing or self.altered or self.foreign)

    def __str__(self) -> str:
        return f"{self.missing} rows missing, {self.altered} altered, {self.foreign} of nobody's"


class StackPrefixes:
    """``writing`` is held for each slice of rows that is written."""

    def __init__(
        self, table: Table, kinds: Mapping[str, int], writing: AbstractContextManager[object]
    ) -> None:
        self._table = table
        self._kinds = kinds
        self._writing = writing
        self._turn = Lock()
        self._wanted = self._applied = Wanted()
        self._keys: set[bytes] = set()
        """Of the hosts that are applied."""
        self._known = False
        """The map holds what is applied, as far as we have written it."""
        self._closed = False
        self.written = 0
        """Rows put and deleted since the start."""

    def __len__(self) -> int:
        return len(self._applied.fixed) + len(self._keys)

    def set(self, wanted: Wanted) -> None:
        """From now on exactly these; what is new comes before what is old goes.

        Returns at once if another thread is writing, which sees to it then. Raises KernelError if they do not
        all fit; what is in the map is not known then, and the next call finds out.
        """
        self._wanted = wanted
        self._take_turns()

    def compare(self) -> Compared:
        """Read the whole map and put right what is not as it should be. Waits for its turn."""
        with self._turn:
            found = Compared() if self._closed else self._reconcile()
        self._take_turns()
        return found

    def close(self) -> None:
        """The table is not used any more once this has returned."""
        with self._turn:
            self._closed = True

    def _take_turns(self) -> None:
        """Whoever has the turn looks again after he let go of it: no wish is left behind."""
        while self._applied is not self._wanted and self._turn.acquire(blocking=False):
            try:
                if self._closed:
                    return
                self._apply(self._wanted)
            finally:
                self._turn.release()

    def _apply(self, wanted: Wanted) -> None:
        before, self._applied = self._applied, wanted
        new = set(map(host_prefix_bytes, wanted.hosts - before.hosts))
        old = set(map(host_prefix_bytes, before.hosts - wanted.hosts))
        self._keys |= new
        self._keys -= old
        if not self._known:
            self._reconcile()
            return
        changed = new | old | (before.fixed.keys() ^ wanted.fixed.keys())
        changed |= {key for key, kind in wanted.fixed.items() if before.fixed.get(key, kind) != kind}
        self._write(changed)

    def _reconcile(self) -> Compared:
        keys, values = libbpf.map_dump(self._table.fd, self._table.shape)
        size = self._table.shape.key_size
        kinds = self._table.decode(values)["kind"].tolist()
        there = {keys[at * size : (at + 1) * size]: kind for at, kind in enumerate(kinds)}
        missing = [key for key in self._all_keys() if key not in there]
        altered = [key for key, kind in there.items() if self._kind(key) not in (None, kind)]
        foreign = [key for key in there if self._kind(key) is None]
        self._write([*missing, *altered, *foreign])
        return Compared(len(missing), len(altered), len(foreign))

    def _write(self, keys: Iterable[bytes]) -> None:
        """Bring these rows in line: first those that are to be there."""
        self._known = False
        kinds = {key: self._kind(key) for key in keys}
        for part in _slices([(key, kind) for key, kind in kinds.items() if kind is not None]):
            rows = self._table.values(len(part))
            rows["kind"] = [kind for _, kind in part]
            with self._writing:
                libbpf.map_update_batch(
                    self._table.fd, b"".join(key for key, _ in part), rows.tobytes(), len(part)
                )
            self.written += len(part)
        for gone in _slices([key for key, kind in kinds.items() if kind is None]):
            with self._writing:
                for key in gone:
                    libbpf.map_delete(self._table.fd, key)
            self.written += len(gone)
        self._known = True

    def _all_keys(self) -> Iterator[bytes]:
        yield from self._applied.fixed
        yield from (key for key in self._keys if key not in self._applied.fixed)

    def _kind(self, key: bytes) -> int | None:
        """None: no such row."""
        fixed = self._applied.fixed.get(key)
        if fixed is not None:
            return self._kinds[fixed]
        return self._kinds[StackKind.SERVICE] if key in self._keys else None


def _slices(rows: Sequence[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while part := list(islice(left, SLICE)):
        yield part
