"""What dumps of the kernel said the last time, so that what it says again need not be read again. Pure.

A dump of a node with 250 pods is two thousand messages, and to read one takes ten times as long as to see
that it is, byte for byte, one of the last time. What is unchanged is the very same object as before, so that
two observations are compared by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from datapath.netlink.wire import Message

T = TypeVar("T")

KEPT = 65536
"""Messages of one dump that are remembered: beyond that a node has other troubles than our reading."""


class Memory:
    """One per reader. Two threads may use it: each sees what one of them had read."""

    def __init__(self) -> None:
        self._dumps: dict[Hashable, dict[bytes, object]] = {}

    def read(
        self,
        name: Hashable,
        messages: Iterable[Message],
        decode: Callable[[Message], T],
        *,
        essence: Callable[[bytes], bytes] = bytes,
    ) -> list[T]:
        """``messages`` of the dump called ``name``, decoded; forgets what the dump says no more.

        ``essence``: what of a message's body ``decode`` goes by, where the rest changes by itself.
        """
        before = self._dumps.get(name, {})
        now: dict[bytes, object] = {}
        found: list[T] = []
        for message in messages:
            key = essence(message.body)
            try:
                known = before[key]
            except KeyError:
                known = decode(message)
            now[key] = known
            found.append(known)  # type: ignore[arg-type]
        self._dumps[name] = now if len(now) <= KEPT else {}
        return found
