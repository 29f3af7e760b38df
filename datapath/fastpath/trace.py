"""What becomes of live packets: the reader of the ring buffer that the programs write while somebody asks.

Source of the format: kernel/bpf/ringbuf.c. The map is mapped in two parts: our position in one page, which we
write, then the kernel's position and the records, each with a header of 8 bytes (length and two flags,
offset), all on 8-byte boundaries. Behind the records they appear once more, so that none is ever split.
"""

from __future__ import annotations

import mmap
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from datapath.fastpath.layout import Names
from datapath.fastpath.rows import address_value
from datapath.netlink.wire import Address

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One packet at one hook. ``time`` is in seconds since boot; ``length`` counts the Ethernet header.

    Addresses are None for what is no IP. ``target`` is the device it was sent to, 0 for none.
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
    """Reads events from the moment it is made until ``close``. One reader at a time on a node."""

    def __init__(self, fd: int, size: int, names: Names, stop: Callable[[], None]) -> None:
        """``fd`` and ``size`` in bytes are the ring buffer's; ``stop`` makes the programs fall silent."""
        self._fd, self._size, self._stop, self._names = fd, size, stop, names
        page = mmap.PAGESIZE
        self._ours = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._theirs = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._read = np.frombuffer(self._ours, np.uint64, 1)
        self._written = np.frombuffer(self._theirs, np.uint64, 1)
        self._records = memoryview(self._theirs)[page:]
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._open = True
        self._read[0] = self._written[0]

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[TraceEvent]:
        """Until ``close``."""
        while self._open:
            yield from self.read(1.0)

    def close(self) -> None:
        """Idempotent. The mappings go with the object."""
        if self._open:
            self._open = False
            self._stop()

    def read(self, timeout: float) -> list[TraceEvent]:
        """What has come; waits up to ``timeout`` seconds for the first, and returns [] if none did."""
        deadline = time.monotonic() + timeout
        found = self._take()
        while not found and (left := deadline - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            found = self._take()
        return found

    def _take(self) -> list[TraceEvent]:
        found = []
        position = int(self._read[0])
        while position < int(self._written[0]):
            start = position % self._size
            header = int.from_bytes(self._records[start : start + 4], "little")
            if header & _BUSY:
                break
            length = header & ~(_BUSY | _DISCARDED)
            if not header & _DISCARDED:
                found.append(self._decode(bytes(self._records[start + _HEADER : start + _HEADER + length])))
            position += -(-(length + _HEADER) // 8) * 8
            self._read[0] = position
        return found

    def _decode(self, raw: bytes) -> TraceEvent:
        row: Any = np.frombuffer(raw, self._names.trace_event)[0]
        flow = row["flow"]
        source, destination = flow["source"].tobytes(), flow["destination"].tobytes()
        is_ip = any(source) or any(destination)
        return TraceEvent(
            time=int(row["time"]) / 1e9,
            hook=self._names.hooks[row["hook"]],
            verdict=self._names.verdicts[row["verdict"]],
            reason=self._names.reasons[row["reason"]],
            source=address_value(source) if is_ip else None,
            destination=address_value(destination) if is_ip else None,
            protocol=int(flow["protocol"]),
            source_port=int(flow["source_port"]),
            destination_port=int(flow["destination_port"]),
            ifindex=int(row["ifindex"]),
            target=int(row["target"]),
            length=int(row["length"]),
        )
