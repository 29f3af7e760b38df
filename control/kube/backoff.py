"""Growing pauses between tries, with jitter, so that a thousand agents do not come back at once."""

from __future__ import annotations

import random


class Backoff:
    """``first`` seconds, doubled every time up to ``cap``; each pause is shortened by up to a half."""

    def __init__(self, first: float, cap: float) -> None:
        self._first = first
        self._cap = cap
        self._next = first

    def pause(self) -> float:
        """Seconds to wait now; the next one is longer."""
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._cap)
        return pause

    def reset(self) -> None:
        self._next = self._first
