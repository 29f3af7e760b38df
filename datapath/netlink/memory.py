"""What dumps of the kernel said the last time, so that what it says again need not be read again.

A dump of a node with 250 pods is two thousand messages. Mostly it says, byte for byte, what it said before:
then all of it is compared as one number, and the very same list is given back. Else each message is looked up
by its bytes, which takes a tenth of reading it. What is unchanged is the very same object as before, so that
two observations are compared by identity.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from datapath.netlink import wire
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message, Request

T = TypeVar("T")

KEPT = 65536
"""Messages of one dump that are remembered: beyond that a node has other troubles than our reading."""

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
    """``mask`` covers what counts of ``length`` bytes, and ``value`` is those, both as one number."""

    length: int
    mask: int
    value: int
    objects: dict[bytes, object]
    found: list[object]

    def says(self, raw: bytes) -> bool:
        return len(raw) == self.length and int.from_bytes(raw, "little") & self.mask == self.value


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

        raw, messages = socket.dump_unless(listing.request, says)
        if before is not None and known:
            return cast(list[T], before.found)
        now = _read(raw, messages, listing, {} if before is None else before.objects)
        if len(messages) <= KEPT:
            self._dumps[name] = now
        else:
            self._dumps.pop(name, None)
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


def _read(
    raw: bytes, messages: Sequence[Message], listing: Listing[Any], before: dict[bytes, object]
) -> _Dump:
    objects: dict[bytes, object] = {}
    found: list[object] = []
    for message in filter(listing.concerns, messages):
        key = _essence(message.body, listing.changing(message.body))
        known = before[key] if key in before else listing.decode(message)
        objects[key] = known
        found.append(known)
    mask = _mask(raw, listing.changing)
    return _Dump(len(raw), mask, int.from_bytes(raw, "little") & mask, objects, found)


def _essence(body: bytes, changing: tuple[Span, ...]) -> bytes:
    for begins, ends in reversed(changing):
        body = body[:begins] + body[ends:]
    return body


def _mask(raw: bytes, changing: Callable[[bytes], tuple[Span, ...]]) -> int:
    """Everything but numbers and ports, which are each question's own, and what changes by itself."""
    mask, offset = bytearray(b"\xff" * len(raw)), 0
    for message in wire.messages(raw):
        mask[offset + _NUMBER : offset + _BODY] = bytes(_BODY - _NUMBER)
        ends_dump = message.kind in (wire.NLMSG_DONE, wire.NLMSG_ERROR)
        for begins, ends in () if ends_dump else changing(message.body):
            mask[offset + _BODY + begins : offset + _BODY + ends] = bytes(ends - begins)
        offset += wire.aligned(_BODY + len(message.body))
    return int.from_bytes(mask, "little")


_NUMBER, _BODY = 8, 16
"""Of struct nlmsghdr: where nlmsg_seq and nlmsg_pid begin, and where they end."""
