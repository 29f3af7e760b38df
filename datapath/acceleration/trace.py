"""What becomes of live packets: the reader of the ring buffer that the programs write while somebody asks.

Source of the format: kernel/bpf/ringbuf.c. The map is mapped in two parts: our position in one page, which we
write, then the kernel's position and the records, each with a header of 8 bytes (length and two flags,
offset), all on 8-byte boundaries. Behind the records they appear once more, so that none is ever split.
"""

from __future__ import annotations

import mmap
import os
import select
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import numpy as np

from datapath.acceleration.layout import Names
from datapath.acceleration.rows import address_value
from datapath.netlink.wire import Address

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8
_ADDRESS_BYTES = 16


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One packet at one hook. ``time`` is in seconds since boot; ``length`` counts the Ethernet header.

    Addresses are None for what is no IP, or was decided on before anybody had read them. ``ifindex`` is the
    device of the hook, ``target`` the one the packet was sent to, 0 for none.
    """

    time: float
    hook: str
    verdict: str
    reason: str
    source: Address | None
    destination: Address | None
    protocol: int
    source_port: int
    destination_port: int
    ifindex: int
    target: int
    length: int


class Trace:
    """Reads events from the moment it is made until ``close``, which any thread may call.

    One reader at a time on a node: see ``trace_readers`` for more.
    """

    def __init__(self, fd: int, size: int, names: Names, stop: Callable[[], None]) -> None:
        """``fd`` and ``size`` in bytes are the ring buffer's; ``stop`` makes the programs fall silent."""
        self._size, self._stop, self._names = size, stop, names
        self._layout = _layout(names.trace_event)
        ring, self._wake = os.dup(fd), os.eventfd(0)
        weakref.finalize(self, _close, ring, self._wake)
        page = mmap.PAGESIZE
        self._ours = mmap.mmap(ring, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._theirs = mmap.mmap(ring, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._read = np.frombuffer(self._ours, np.uint64, 1)
        self._written = np.frombuffer(self._theirs, np.uint64, 1)
        self._records = memoryview(self._theirs)[page:]
        self._poll = select.poll()
        for each in (ring, self._wake):
            self._poll.register(each, select.POLLIN)
        self._open = True
        self.overruns = 0
        """How often the buffer was found full: what came meanwhile is not told."""
        self._read[0] = self._written[0]

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[TraceEvent]:
        """Until ``close``."""
        while self._open:
            yield from self.read(1.0)

    @property
    def is_open(self) -> bool:
        return self._open

    def close(self) -> None:
        """Idempotent; a ``read`` that waits returns at once. Mappings and descriptors go with the object."""
        if self._open:
            self._open = False
            os.eventfd_write(self._wake, 1)
            self._stop()

    def read(self, timeout: float) -> list[TraceEvent]:
        """What has come; waits up to ``timeout`` seconds for the first, and returns [] if none did."""
        deadline = time.monotonic() + timeout
        found = self._take()
        while not found and self._open and (left := deadline - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            found = self._take()
        return found

    def _take(self) -> list[TraceEvent]:
        if not self._open:
            return []
        position, end = int(self._read[0]), int(self._written[0])
        self.overruns += end - position + _HEADER + self._layout.itemsize > self._size
        raw = bytearray()
        while position < end:
            start = position % self._size
            header = int.from_bytes(self._records[start : start + 4], "little")
            if header & _BUSY:
                break
            length = header & ~(_BUSY | _DISCARDED)
            if not header & _DISCARDED:
                raw += self._records[start + _HEADER : start + _HEADER + length]
            position += -(-(length + _HEADER) // 8) * 8
        self._read[0] = position
        return [self._event(row) for row in np.frombuffer(raw, self._layout).tolist()]

    def _event(self, row: tuple[Any, ...]) -> TraceEvent:
        """``row`` has the fields of struct trace_event in the order of ``_FIELDS``."""
        when, source, destination, protocol, source_port, destination_port, *rest = row
        ifindex, target, length, hook, verdict, reason = rest
        is_ip = any(source) or any(destination)
        return TraceEvent(
            time=when / 1e9,
            hook=self._names.hooks[hook],
            verdict=self._names.verdicts[verdict],
            reason=self._names.reasons[reason],
            source=_address(source) if is_ip else None,
            destination=_address(destination) if is_ip else None,
            protocol=protocol,
            source_port=source_port,
            destination_port=destination_port,
            ifindex=ifindex,
            target=target,
            length=length,
        )


_FLOW_FIELDS = ("source", "destination", "protocol", "source_port", "destination_port")
_FIELDS = ("time", *_FLOW_FIELDS, "ifindex", "target", "length", "hook", "verdict", "reason")


def _layout(event: np.dtype[Any]) -> np.dtype[Any]:
    """The same bytes as a flat record of ``_FIELDS``, addresses as bytes: many rows by one ``tolist``."""
    assert event.fields is not None
    flow, flow_at = event.fields["flow"][:2]
    assert flow.fields is not None
    kinds: list[Any] = []
    offsets = []
    for name in _FIELDS:
        kind, at = (flow if name in _FLOW_FIELDS else event).fields[name][:2]  # type: ignore[index]
        kinds.append(f"V{_ADDRESS_BYTES}" if kind.fields else kind)
        offsets.append(at + (flow_at if name in _FLOW_FIELDS else 0))
    return np.dtype({"names": _FIELDS, "formats": kinds, "offsets": offsets, "itemsize": event.itemsize})


@lru_cache(maxsize=4096)
def _address(raw: bytes) -> Address:
    return address_value(raw)


def _close(*descriptors: int) -> None:
    for each in descriptors:
        os.close(each)
