"""Many readers of one trace: who gets what, what the programs are asked for, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

import pytest

from datapath.acceleration.rows import Pod
from datapath.acceleration.trace import TraceEvent
from datapath.acceleration.trace_readers import PENDING_MAX, TraceReader, TraceReaders
from datapath.errors import KernelError
from datapath.netlink.wire import Address

ONE, TWO, SIX = ip_address("10.0.0.1"), ip_address("10.0.0.2"), ip_address("2001:db8::1")
PATIENCE = 5.0


def event(source: Address | None, destination: Address | None = None, *, ifindex: int = 5) -> TraceEvent:
    return TraceEvent(1.0, "pod_egress", "stack", "x", source, destination, 17, 1, 2, ifindex, 0, 60)


class FakeSource:
    """What is written is read once."""

    def __init__(self) -> None:
        self.overruns = 0
        self.is_open = True
        self._events: list[TraceEvent] = []
        self._changed = threading.Condition()

    def write(self, *events: TraceEvent) -> None:
        with self._changed:
            self._events += events
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self._events, PATIENCE)

    def read(self, timeout: float) -> list[TraceEvent]:
        with self._changed:
            self._changed.wait_for(lambda: self._events or not self.is_open, timeout)
            found, self._events = self._events, []
            self._changed.notify_all()
        return found

    def close(self) -> None:
        with self._changed:
            self.is_open = False
            self._changed.notify_all()


class FakeFastPath:
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.sources: list[FakeSource] = []
        self.only: list[Address | None] = []

    def trace(self, address: Address | None = None) -> FakeSource:
        self.sources.append(FakeSource())
        self.only.append(address)
        return self.sources[-1]

    def trace_only(self, address: Address | None) -> None:
        self.only.append(address)

    def endpoints(self) -> Mapping[int, Pod]:
        return {5: Pod(5, None, "", "", (ONE, SIX))}


@pytest.fixture
def fast() -> Iterator[FakeFastPath]:
    made = FakeFastPath()
    yield made
    for source in made.sources:
        source.close()


@pytest.fixture
def readers(fast: FakeFastPath) -> TraceReaders:
    return TraceReaders(lambda: fast)


def taken(reader: TraceReader, count: int) -> list[TraceEvent]:
    found: list[TraceEvent] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        found += reader.read(0.1)
    return found + reader.read(0)


def test_each_gets_what_it_asked_for(fast: FakeFastPath, readers: TraceReaders) -> None:
    everything, one, two = readers.join(), readers.join([ONE]), readers.join([TWO, SIX])
    events = [event(ONE, SIX), event(TWO, SIX), event(ONE, ip_address("10.0.0.9"))]
    fast.sources[0].write(*events)
    assert taken(everything, 3) == events
    assert taken(one, 2) == [events[0], events[2]]
    assert taken(two, 2) == events[:2]
    assert len(fast.sources) == 1, "a ring buffer has one consumer"


def test_what_nobody_has_parsed_is_told_to_who_asks_for_its_device(
    fast: FakeFastPath, readers: TraceReaders
) -> None:
    one, two = readers.join([SIX]), readers.join([TWO])
    unread = event(None, ifindex=5)
    fast.sources[0].write(unread, event(None, ifindex=6), event(TWO, ONE))
    assert taken(one, 1) == [unread]
    assert taken(two, 1) == [event(TWO, ONE)]


def test_the_programs_tell_no_more_than_all_want(fast: FakeFastPath, readers: TraceReaders) -> None:
    one = readers.join([ONE])
    again = readers.join([ONE])
    assert set(fast.only) == {ONE}
    two = readers.join([TWO])
    assert fast.only[-1] is None
    two.close()
    assert fast.only[-1] == ONE
    both = readers.join([ONE, SIX])
    assert fast.only[-1] is None
    for reader in (both, again, one):
        reader.close()
    assert readers.join().addresses == frozenset()
    assert fast.only[-1] is None


def test_it_is_off_when_the_last_has_gone(fast: FakeFastPath, readers: TraceReaders) -> None:
    others = set(threading.enumerate())
    one, two = readers.join(), readers.join([ONE])
    (thread,) = set(threading.enumerate()) - others
    one.close()
    one.close()
    assert [source.is_open for source in fast.sources] == [True]
    assert not two.ended
    two.close()
    assert [source.is_open for source in fast.sources] == [False]
    assert not thread.is_alive()
    third = readers.join()
    fast.sources[1].write(event(ONE))
    assert taken(third, 1) == [event(ONE)]


def test_a_fast_path_that_closes_ends_the_readers(fast: FakeFastPath, readers: TraceReaders) -> None:
    reader = readers.join()
    waits = threading.Thread(target=reader.read, args=(PATIENCE * 10,))
    waits.start()
    fast.sources[0].close()
    waits.join(PATIENCE)
    assert not waits.is_alive()
    assert reader.ended
    assert not readers.join().ended, "the next one begins anew"
    reader.close()
    assert fast.sources[1].is_open, "whose end is not the first one's to say"


def test_who_does_not_read_loses_events_and_is_told_how_many(
    fast: FakeFastPath, readers: TraceReaders
) -> None:
    slow, quick = readers.join([ONE]), readers.join()
    fast.sources[0].write(*[event(ONE)] * (PENDING_MAX - 1))
    assert len(taken(quick, PENDING_MAX - 1)) == PENDING_MAX - 1
    fast.sources[0].write(*[event(ONE)] * 8)
    assert len(taken(quick, 8)) == 8
    assert quick.missed() == ""
    assert slow.missed() == "7 that were not read in time"
    assert slow.missed() == ""
    assert len(taken(slow, PENDING_MAX)) == PENDING_MAX


def test_what_the_kernel_lost_is_said(fast: FakeFastPath, readers: TraceReaders) -> None:
    reader = readers.join()
    fast.sources[0].overruns += 1
    assert "buffer was full" in reader.missed()
    assert reader.missed() == ""
    assert readers.join().missed() == "", "before it came"


def test_without_a_fast_path_nobody_joins() -> None:
    def none() -> FakeFastPath:
        raise KernelError("no fast path")

    with pytest.raises(KernelError, match="no fast path"):
        TraceReaders(none).join()
