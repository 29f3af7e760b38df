"""Several readers of the one trace of a node, each with its own addresses.

A ring buffer has one consumer. So one thread reads it, while anybody listens, and hands each reader what it
asked for; the programs tell of one address only if that is all that is asked for, and of nothing when the
last reader has gone. It takes a fifth of a processor at most, and a reader that is slow loses events, so that
neither a busy node nor a stopped terminal is felt elsewhere; what is lost is counted and said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from datapath.netlink.wire import Address

if TYPE_CHECKING:  # a node without a fast path does without numpy
    from datapath.acceleration.rows import Pod
    from datapath.acceleration.trace import TraceEvent

PENDING_MAX = 8192
"""Events that wait for one reader."""
_REST = 4
"""For each second of work the thread rests so many."""
_TURN = 1.0


class Source(Protocol):
    """``datapath.acceleration.trace.Trace``."""

    overruns: int

    @property
    def is_open(self) -> bool: ...

    def read(self, timeout: float) -> list[TraceEvent]: ...

    def close(self) -> None: ...


class Traced(Protocol):
    """What ``datapath.acceleration.path.FastPath`` has of this. Errors are KernelErrors."""

    def trace(self, address: Address | None = None) -> Source: ...

    def trace_only(self, address: Address | None) -> None: ...

    def endpoints(self) -> Mapping[int, Pod]: ...


class TraceReader:
    """Made by ``TraceReaders.join``; one thread reads, any may close."""

    def __init__(
        self,
        addresses: frozenset[Address],
        devices: frozenset[int],
        session: _Session,
        leave: Callable[[TraceReader], None],
    ) -> None:
        self.addresses = addresses
        self._devices = devices
        self._session = session
        self._leave = leave
        self._ready = threading.Condition()
        self._pending: list[TraceEvent] = []
        self._lost = 0
        self._overruns = session.source.overruns

    @property
    def ended(self) -> bool:
        """The fast path was closed: nothing will come any more."""
        return not self._session.source.is_open

    def close(self) -> None:
        """Idempotent."""
        self._leave(self)

    def read(self, timeout: float = _TURN) -> list[TraceEvent]:
        """What has come, oldest first; waits up to ``timeout`` seconds, and returns [] if nothing did."""
        with self._ready:
            self._ready.wait_for(lambda: self._pending or self.ended, timeout)
            found, self._pending = self._pending, []
        return found

    def missed(self) -> str:
        """What was lost since this was last asked, as a clause, "" if nothing was."""
        with self._ready:
            lost, self._lost = self._lost, 0
            full, self._overruns = (
                self._session.source.overruns > self._overruns,
                self._session.source.overruns,
            )
        reasons = [f"{lost} that were not read in time"] if lost else []
        if full:
            reasons.append("an unknown number, as the kernel's buffer was full")
        return " and ".join(reasons)

    def offer(self, events: Iterable[TraceEvent]) -> None:
        """Take those that are wanted, as far as there is room. Also called with none, to be woken."""
        wanted = [event for event in events if self._wants(event)]
        with self._ready:
            room = PENDING_MAX - len(self._pending)
            self._pending += wanted[:room]
            self._lost += len(wanted[room:])
            self._ready.notify()

    def _wants(self, event: TraceEvent) -> bool:
        """A packet whose addresses nobody has read counts as the pod's if it was seen at the pod's device."""
        if not self.addresses:
            return True
        if event.source is None:
            return event.ifindex in self._devices
        return event.source in self.addresses or event.destination in self.addresses


class TraceReaders:
    """``fast`` gives the open fast path, or raises what ``join`` shall raise."""

    def __init__(self, fast: Callable[[], Traced]) -> None:
        self._fast = fast
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def join(self, addresses: Iterable[Address] = ()) -> TraceReader:
        """From now on events of packets from or to these, of all packets if there are none."""
        wanted = frozenset(addresses)
        fast = self._fast()
        devices = frozenset(i for i, pod in fast.endpoints().items() if wanted.intersection(pod.addresses))
        with self._lock:
            if self._session is None or not self._session.source.is_open:
                self._session = _Session(fast, _only([wanted]))
            reader = TraceReader(wanted, devices, self._session, self._leave)
            self._session.add(reader)
        return reader

    def _leave(self, reader: TraceReader) -> None:
        with self._lock:
            if self._session is not None and self._session.drop(reader):
                self._session = None


class _Session:
    """From the first reader's coming to the last one's going. Its verbs are called one at a time."""

    def __init__(self, fast: Traced, only: Address | None) -> None:
        self._fast = fast
        self._readers: tuple[TraceReader, ...] = ()
        self.source = fast.trace(only)
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
        self._thread.start()

    def add(self, reader: TraceReader) -> None:
        self._readers += (reader,)
        self._narrow()

    def drop(self, reader: TraceReader) -> bool:
        """True if it was the last one: the programs are silent and the thread is gone then."""
        if reader not in self._readers:
            return False
        self._readers = tuple(one for one in self._readers if one is not reader)
        if self._readers:
            self._narrow()
            return False
        self.source.close()
        self._thread.join()
        return True

    def _narrow(self) -> None:
        if self.source.is_open:
            self._fast.trace_only(_only(reader.addresses for reader in self._readers))

    def _run(self) -> None:
        while self.source.is_open:
            before = time.thread_time()
            events = self.source.read(_TURN)
            for reader in self._readers:
                reader.offer(events)
            time.sleep((time.thread_time() - before) * _REST)
        for reader in self._readers:
            reader.offer(())


def _only(wanted: Iterable[frozenset[Address]]) -> Address | None:
    """The one address that all want, None if they want more than that."""
    asked = set(wanted)
    one = next(iter(asked)) if len(asked) == 1 else frozenset()
    return next(iter(one)) if len(one) == 1 else None
