"""What dumps of the kernel said the last time, so that what it says again need not be read again.

A dump of a node with 250 pods is two thousand messages. Mostly it says, byte for byte, what it said before:
then all of it is compared at once, and the very same list is given back. Else each message is looked up
by its bytes, which takes a tenth of reading it. What is unchanged is the very same object as before, so that
two observations are compared by identity.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from datapath.netlink import wire
from datapath.netlink.socket import ENDS, Socket
from datapath.netlink.wire import Message, Request

T = TypeVar("T")

KEPT = 65536
"""Messages of one dump that are remembered: beyond that a node has other troubles than our reading."""

LISTINGS = 256
"""Questions whose answers are remembered: each ENI that comes has tables of its own number, and goes."""

Span = tuple[int, int]
"""Where something begins in a message's body, and where it ends."""


def _everything(message: Message) -> bool:
    del message
    return True


def _nothing(body: bytes) -> tuple[Span, ...]:
    del body
    return ()


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A question for all objects of a kind, and how the answer is read.

    ``concerns``: messages that were asked for, where the kernel may answer with others. ``changing``: what of
    a message's body changes by itself, and ``decode`` does not go by.
    """

    request: Request
    decode: Callable[[Message], T]
    concerns: Callable[[Message], bool] = _everything
    changing: Callable[[bytes], tuple[Span, ...]] = _nothing

    def ask(self, socket: Socket) -> list[T]:
        """Without a memory."""
        return [self.decode(one) for one in socket.dump(self.request) if self.concerns(one)]


@dataclass(frozen=True, slots=True)
class _Dump:
    """``said`` are its bytes, with zeroes at ``spans``: number and port of the question, and what changes."""

    said: bytes
    spans: tuple[Span, ...]
    found: list[object]

    def says(self, raw: bytes) -> bool:
        return len(raw) == len(self.said) and _blanked(raw, self.spans) == self.said

    def objects(self, listing: Listing[Any]) -> dict[bytes, object]:
        """By what the messages said of them."""
        concerned = filter(listing.concerns, _objects_of(self.said))
        return {message.body: one for message, one in zip(concerned, self.found, strict=True)}


class Memory:
    """One per reader. Two threads may use it: each sees what one of them had read.

    Whoever gets a list leaves it as it is.
    """

    def __init__(self) -> None:
        self._dumps: dict[tuple[int, bytes], _Dump] = {}
        self._made: dict[str, tuple[Sequence[object], object]] = {}

    def read(self, socket: Socket, listing: Listing[T]) -> list[T]:
        """What there is, decoded; forgets what the dump says no more."""
        name = listing.request.kind, listing.request.body
        before = self._dumps.get(name)
        known = False

        def says(raw: bytes) -> bool:
            nonlocal known
            known = before is not None and before.says(raw)
            return known

        raw, _ = socket.dump_unless(listing.request, says)
        if before is not None and known:
            return cast(list[T], before.found)
        now = _read(raw, listing, {} if before is None else before.objects(listing))
        self._dumps.pop(name, None)  # to the end: they are in the order of when they were read
        if len(now.found) <= KEPT:
            self._dumps[name] = now
        for old in list(self._dumps)[:-LISTINGS]:
            self._dumps.pop(old, None)
        return cast(list[T], now.found)

    def latest(self, listing: Listing[T]) -> list[T] | None:
        """What the last ``read`` came to, without asking; None if there was none."""
        found = self._dumps.get((listing.request.kind, listing.request.body))
        return None if found is None else cast(list[T], found.found)

    def made(self, name: str, parts: Sequence[object], make: Callable[[], T]) -> T:
        """What was made of these very objects the last time, or what ``make`` makes of them now."""
        known = self._made.get(name)
        if known is not None and len(parts) == len(known[0]) and all(map(operator.is_, parts, known[0])):
            return cast(T, known[1])
        found = make()
        self._made[name] = tuple(parts), found
        return found


def _read(raw: bytes, listing: Listing[Any], before: dict[bytes, object]) -> _Dump:
    spans = tuple(_spans(raw, listing.changing))
    said = bytes(_blanked(raw, spans))
    found: list[object] = []
    for message, blank in zip(_objects_of(raw), _objects_of(said), strict=True):
        if listing.concerns(message):
            known = blank.body in before
            found.append(before[blank.body] if known else listing.decode(message))
    return _Dump(said, spans, found)


def _objects_of(raw: bytes) -> Iterator[Message]:
    """Without the end."""
    return (one for one in wire.messages(raw) if one.kind not in ENDS)


def _spans(raw: bytes, changing: Callable[[bytes], tuple[Span, ...]]) -> Iterator[Span]:
    offset = 0
    for message in wire.messages(raw):
        yield offset + _NUMBER, offset + _BODY
        for begins, ends in changing(message.body) if message.kind not in ENDS else ():
            yield offset + _BODY + begins, offset + _BODY + ends
        offset += wire.aligned(_BODY + len(message.body))


def _blanked(raw: bytes, spans: Iterable[Span]) -> bytearray:
    found = bytearray(raw)
    for begins, ends in spans:
        found[begins:ends] = bytes(ends - begins)
    return found


_NUMBER, _BODY = 8, 16
"""Of struct nlmsghdr: where nlmsg_seq and nlmsg_pid begin, and where they end."""
