"""Sleeping by the daemon's clock, so that a test that advances the clock wakes the sleepers."""

from __future__ import annotations

import asyncio
import contextlib

from control.model.clock import SystemClock


class Timers:
    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._jumped = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Until ``seconds`` have gone by on the clock, whether they were waited for or skipped."""
        until = self._clock.now() + seconds
        while (left := until - self._clock.now()) > 0:
            jumped = self._jumped
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await jumped.wait()

    def advance(self, seconds: float) -> float:
        """Move the clock, wake who sleeps by it, and tell the new time."""
        self._clock.advance(seconds)
        self._jumped.set()
        self._jumped = asyncio.Event()
        return self._clock.now()
