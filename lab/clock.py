"""The lab's time. Everything that lags, expires or is counted per minute reads it, and a test may move it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MOST_SECONDS = 10 * 365 * 86400.0
"""Ten years: further than any lease or token, and near enough for every date of the lab to have a year."""


def check_seconds(what: str, seconds: float) -> None:
    """Raises ValueError unless it is a time that can be waited for: NaN and infinity are none."""
    if not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(f"{what}={seconds} is not a number of seconds from 0 to {MOST_SECONDS:.0f}")


class LabClock:
    """Seconds since the epoch, plus what ``advance`` has added. Thread-safe.

    Whoever sleeps until a time of this clock registers with ``on_advance`` to be woken when it jumps.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = time.time() - time.monotonic()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        return time.monotonic() + self._offset

    def advance(self, seconds: float) -> float:
        """Jump ahead and return the new time. Raises ValueError for a step back, or one out of all time."""
        check_seconds("a clock only goes forward: step", seconds)
        with self._lock:
            self._offset += seconds
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
        return self.now()

    def on_advance(self, listener: Callable[[], None]) -> None:
        with self._lock:
            self._listeners.append(listener)
