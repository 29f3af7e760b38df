"""How long an object waits to be put back that somebody undoes again and again.

Five times at once; from then on after 1, 2, 4 and at last 60 seconds, so that two programs that want
different things cost the node no more than a message now and then. Five minutes of peace, and it begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from datapath.difference import Difference

FREELY = 5
LONGEST = 60.0
"""Seconds between two tries, at last."""
PEACE = 300.0
"""Seconds after which an object is one that nobody quarrels about."""
_KEPT = 4096
"""Objects that are remembered; of more, those that were put back last."""


class Patience:
    """``clock`` in seconds; it never goes back. Not for two threads at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[str, tuple[int, float]] = {}

    def allows(self, what: str) -> bool:
        """It may be put back now."""
        count, last = self._times.get(what, (0, 0.0))
        return count < FREELY or self._clock() >= last + _pause(count)

    def has_done(self, what: str) -> bool:
        """It was put right before, so that somebody has undone it since."""
        return what in self._times

    def done(self, one: Difference) -> Difference:
        """It was put back; from the fifth time on its words say that somebody is against it."""
        now = self._clock()
        count, last = self._times.get(one.what, (0, now))
        count = 1 if now - last > PEACE else count + 1
        self._times.pop(one.what, None)  # to the end: they are in the order of the last time
        self._times[one.what] = count, now
        if len(self._times) > _KEPT:
            del self._times[next(iter(self._times))]
        if count < FREELY:
            return one
        words = f"{one.found}; undone {count} times by another hand: tried again in {_pause(count):.0f} s"
        return replace(one, found=words)


def _pause(count: int) -> float:
    return float(min(2 ** min(count - FREELY, 10), LONGEST))
