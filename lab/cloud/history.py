"""What a resource was, is and will be: immutable snapshots with the time each became true.

A view that lags reads the past; a transition that takes time is written into the future. Nothing sleeps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

TOLERANCE = 1e-5
"""Seconds. ``since + delay - delay`` may miss ``since`` by a rounding error, which is far below this."""


class History(Generic[T]):
    """Snapshots of one resource in order of time; None means that it does not exist."""

    __slots__ = ("_since", "_values")

    def __init__(self) -> None:
        self._since: list[float] = []
        self._values: list[T | None] = []

    def put(self, since: float, value: T | None) -> None:
        """``value`` is true from ``since`` on. Raises ValueError for a time before the last one put.

        One that is before it by no more than ``TOLERANCE`` has seen it, and counts as the same moment.
        """
        if self._since and self._since[-1] - TOLERANCE <= since:
            since = max(since, self._since[-1])
        if self._since and since < self._since[-1]:
            raise ValueError(f"history goes forward: {since} is before {self._since[-1]}")
        if self._since and since == self._since[-1]:
            self._values[-1] = value
            return
        self._since.append(since)
        self._values.append(value)

    def at(self, time: float) -> T | None:
        index = bisect_right(self._since, time + TOLERANCE) - 1
        return self._values[index] if index >= 0 else None

    def next_after(self, time: float) -> float | None:
        """When the first change after ``time`` becomes true, None if there is none."""
        index = bisect_right(self._since, time + TOLERANCE)
        return self._since[index] if index < len(self._since) else None

    def amend(self, since: float, change: Callable[[T], T]) -> None:
        """``change`` what is true from ``since`` on, and what is on its way; what does not exist stays so."""
        now, index = self.at(since), bisect_right(self._since, since)
        for later in range(index, len(self._values)):
            value = self._values[later]
            self._values[later] = None if value is None else change(value)
        if now is None:
            return
        if index and self._since[index - 1] == since:
            self._values[index - 1] = change(now)
        else:
            self._since.insert(index, since)
            self._values.insert(index, change(now))

    def rewrite(self, since: float, value: T | None) -> None:
        """Forget everything: every view, however late, sees ``value`` at once."""
        self._since = [since]
        self._values = [value]

    def forget_before(self, time: float) -> bool:
        """Drop what no view at or after ``time`` can see. True if nothing is left to know."""
        keep = max(bisect_right(self._since, time) - 1, 0)
        del self._since[:keep]
        del self._values[:keep]
        return not self._values or (len(self._values) == 1 and self._values[0] is None)
