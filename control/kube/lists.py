"""A list's answer, item by item, while it is still coming in.

At resourceVersion 0 kube-apiserver answers out of its memory, ignores ``limit`` and sends everything at
once: 10,000 Services are 25 MB of JSON or more. Held and decoded whole they take 195 MiB here, and
up to a second without the event loop. Here it is a chunk and an object at a time: 2 MiB, 30 ms at most.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_FOLLOWERS = frozenset(", \t\n\r:]}")
_LONGEST = 16 * 1024 * 1024
"""Characters of one value. etcd takes 1.5 MB; beyond this it is not an object but garbage."""


class Malformed(ValueError):
    """The text is not a JSON object with members, or ends before the object does."""


class ListAnswer:
    """One JSON object whose member ``items`` is read by iterating; ``rest`` has the others after that."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._text = _Text(chunks)
        self.rest: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        """Once. Raises Malformed, after the items that could be read."""
        text = self._text
        text.take("{")
        while True:
            name = text.value()
            text.take(":")
            if name == "items" and text.peek() == "[":
                yield from self._items()
            else:
                self.rest[name] = text.value()
            if text.take(",}") == "}":
                break
        text.finish()

    def _items(self) -> Iterator[Any]:
        text = self._text
        text.take("[")
        if text.peek() == "]":
            text.take("]")
            return
        while True:
            yield text.value()
            if text.take(",]") == "]":
                return


class _Text:
    """A place in text of which more is to come. Every method raises Malformed for what JSON is not."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """The next character that is not white space."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None, "it matches nothing as well"
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            self._read_on()

    def take(self, allowed: str) -> str:
        """The next character, which must be one of ``allowed``."""
        found = self.peek()
        if found not in allowed:
            raise Malformed(f"{found!r} stands where one of {allowed!r} belongs")
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value, whole. Only what follows shows that it has ended: "-2." reads as -2 so far."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                end = len(self._text)
            if self._text[end : end + 1] in _FOLLOWERS:
                self._at = end
                return value
            if len(self._text) - self._at > _LONGEST:
                raise Malformed(f"no JSON value ends within {_LONGEST} characters")
            self._read_on()

    def finish(self) -> None:
        """Read to the end, which is what lets the connection be used again."""
        for _ in self._chunks:
            pass

    def _read_on(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise Malformed("the text ends in the middle of the list")
        self._text = self._text[self._at :] + self._decoder.decode(chunk)
        self._at = 0
