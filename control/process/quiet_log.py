"""Warnings that somebody else can cause without end: one line per period, with how many there were."""

from __future__ import annotations

import logging
import time

PERIOD = 60.0
"""Seconds between two lines of one kind."""


class QuietLog:
    """For one kind of warning. The first is logged at once, later ones are counted until the period ends."""

    def __init__(self, log: logging.Logger, *, period: float = PERIOD) -> None:
        self._log = log
        self._period = period
        self._next = 0.0
        self._left_out = 0

    def warning(self, message: str) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more like this since the last line)" if self._left_out else ""
        self._log.warning("%s%s", message, more)
        self._next, self._left_out = now + self._period, 0
