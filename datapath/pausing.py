"""Work in steps of some milliseconds: whoever has other things to do does them where it yields."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar, cast

T = TypeVar("T")

Pausing = Generator[None, None, T]
"""A step ends at each ``yield``; what it comes to is its return value. Nothing is held over a yield that
another piece of work on the same thread could wait for."""


def at_once(work: Pausing[T]) -> T:
    """Without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return cast(T, end.value)
