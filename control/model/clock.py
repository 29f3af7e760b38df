"""Time as a port, so that a test can move it: cooldowns, throttle windows and token lifetimes read it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch. Does not run backwards."""
        ...


class SystemClock:
    """The machine's clock plus an offset. ``advance`` is for tests and never called otherwise."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a clock only goes forward, asked for {seconds} s")
        self._offset += seconds
