"""When the kernel is compared with what was written: every ten seconds, and soon after it told of a change.

A change is followed within a moment, so that several that belong together are one round. A hand that changes
things without end gets five rounds at once and then one every two seconds: the objects that it quarrels about
are left alone for longer than that (``datapath/modes/policy_route/patience.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from control.process.timers import Timers

PERIOD = 10.0
"""What the kernel tells nobody of (most settings, rows of eBPF) is out of order for so long at most."""
SOON = 0.05
BURST = 5
REFILL = 2.0


class RepairRounds:
    """``clock`` in seconds; it never goes back. One waits, in one event loop."""

    def __init__(self, timers: Timers, clock: Callable[[], float] = time.monotonic) -> None:
        self._timers = timers
        self._clock = clock
        self._due = asyncio.Event()
        self._left, self._counted = float(BURST), clock()

    def is_due(self) -> None:
        """Something was changed: the next round is soon."""
        self._due.set()

    async def next(self) -> None:
        """Until it is time for a round."""
        period = asyncio.ensure_future(self._timers.sleep(PERIOD))
        told = asyncio.ensure_future(self._told())
        try:
            await asyncio.wait({period, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            period.cancel()
            told.cancel()
        self._due.clear()

    async def _told(self) -> None:
        await self._due.wait()
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._counted) / REFILL)
        self._counted = now
        await asyncio.sleep(SOON + max(0.0, (1.0 - self._left) * REFILL))
        self._left -= 1.0
