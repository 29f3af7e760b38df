"""A dump that says what it said before is not read again, and of another only what is new."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from socket import AF_INET

import pytest

from datapath.errors import KernelError
from datapath.netlink import neighbour, socket, wire
from datapath.netlink.memory import LISTINGS, Listing, Memory, Span
from datapath.netlink.neighbour import listing
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message, Request
from tests.unit.datapath.test_socket import packet

NAME, COUNTER = 1, 2


@dataclass
class Table:
    """Stands for the raw socket of a kernel that has ``rows``; every datagram has two of them at most."""

    rows: list[tuple[str, int]] = field(default_factory=list)
    port: int = 7
    disturbed: int = 0
    stale: bytes = b""
    queue: list[bytes] = field(default_factory=list)

    def setsockopt(self, *option: int) -> None:
        pass

    def getsockname(self) -> tuple[int, int]:
        return self.port, 0

    def send(self, data: bytes) -> None:
        (request,) = wire.messages(data)
        flags = wire.DUMP_INTR if self.disturbed else 0
        self.disturbed = max(0, self.disturbed - 1)
        rows = [self._row(request.sequence, flags, *one) for one in self.rows]
        self.queue = [self.stale] if self.stale else []
        self.queue += [b"".join(rows[at : at + 2]) for at in range(0, len(rows), 2)]
        self.queue.append(packet(wire.NLMSG_DONE, request.sequence, bytes(4), flags))

    def _row(self, sequence: int, flags: int, name: str, counter: int) -> bytes:
        body = wire.attribute_text(NAME, name) + wire.attribute_u32(COUNTER, counter)
        return wire.HEADER.pack(16 + len(body), 99, flags, sequence, self.port) + body

    def recv(self, size: int) -> bytes:
        data = self.queue.pop(0)
        assert len(data) <= size
        return data

    def close(self) -> None:
        pass


class Row:
    def __init__(self, name: str) -> None:
        self.name = name


def decode(message: Message) -> Row:
    return Row(wire.text(wire.attributes(message.body)[NAME]))


def counters(body: bytes) -> tuple[Span, ...]:
    return tuple((begins, ends) for kind, begins, ends in wire.places(body, 0) if kind == COUNTER)


LISTING = Listing(Request(98, wire.DUMP, b"", "list", "rows"), decode, changing=counters)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table([("a", 1), ("b", 1), ("c", 1)])
    monkeypatch.setattr(socket, "open_raw", lambda _netns, **_options: made)
    return made


def test_what_says_the_same_is_the_very_same(table: Table) -> None:
    """By another question, another socket, and whatever was counted meanwhile."""
    memory, asking = Memory(), Socket()
    first = memory.read(asking, LISTING)
    assert [one.name for one in first] == ["a", "b", "c"]
    table.rows, table.port = [("a", 5), ("b", 6), ("c", 7)], 8
    assert memory.read(asking, LISTING) is first
    assert memory.latest(LISTING) is first


def test_only_what_is_new_is_read(table: Table) -> None:
    memory, asking = Memory(), Socket()
    before = {one.name: one for one in memory.read(asking, LISTING)}
    table.rows = [("b", 9), ("x", 1), ("c", 1)]
    after = {one.name: one for one in memory.read(asking, LISTING)}
    assert list(after) == ["b", "x", "c"]
    assert after["b"] is before["b"]
    assert after["c"] is before["c"]
    table.rows = [("a", 1)]
    (again,) = memory.read(asking, LISTING)
    assert again is not before["a"]


def test_a_disturbed_dump_is_asked_for_again_and_a_late_answer_is_none(table: Table) -> None:
    memory, asking = Memory(), Socket()
    first = memory.read(asking, LISTING)
    table.disturbed = 2
    table.stale = packet(99, 12345, wire.attribute_text(NAME, "z"))
    assert memory.read(asking, LISTING) is first
    table.disturbed = socket.DUMP_TRIES
    with pytest.raises(KernelError):
        memory.read(asking, LISTING)


def test_what_was_made_is_kept_for_the_very_objects_alone() -> None:
    memory, parts = Memory(), ([1], [2])
    made = memory.made("sum", parts, lambda: struct.pack("=I", 3))
    assert memory.made("sum", parts, bytes) is made
    assert memory.made("sum", ([1], parts[1]), bytes) == b""


@pytest.mark.usefixtures("table")
def test_listings_that_nobody_asks_for_any_more_are_forgotten() -> None:
    """Each ENI that comes has tables of its own number."""
    memory, asking = Memory(), Socket()
    for number in range(3 * LISTINGS):
        memory.read(
            asking, replace(LISTING, request=replace(LISTING.request, body=struct.pack("=I", number)))
        )
    assert len(memory._dumps) == LISTINGS
    first = memory.read(asking, LISTING)
    assert memory.read(asking, LISTING) is first


def test_of_a_neighbour_only_what_no_decoder_reads_is_left_out() -> None:
    """A MAC of 20 bytes ends where the times of one of six bytes have begun already."""
    head = struct.pack("=BxxxiHBB", AF_INET, 7, 0x80, 0, 1)
    told = [head + wire.attribute(1, bytes(4)) + wire.attribute(2, bytes(n - 1) + b"x") for n in (4, 6, 20)]
    for body in told:
        mac = neighbour.decode(Message(28, 0, 1, body))
        changing = listing().changing(body)
        blank = bytearray(body)
        for begins, ends in changing:
            blank[begins:ends] = bytes(ends - begins)
        assert neighbour.decode(Message(28, 0, 1, bytes(blank))) == mac
