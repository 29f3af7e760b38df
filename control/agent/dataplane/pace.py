"""Work in steps, between which the event loop serves whoever waits."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar, cast

from datapath.pausing import Pausing

T = TypeVar("T")

SLICE = 0.002
"""Seconds that a piece of work may have at a time. A request to the CNI passes the loop a few times, and may
meet a slice each time; a slice of nothing would make the loop's own work the most of it."""


async def paced(work: Pausing[T]) -> T:
    """What ``work`` comes to. Its steps run on the loop's thread, ``SLICE`` and one step long at most."""
    began = time.monotonic()
    try:
        while True:
            try:
                next(work)
            except StopIteration as end:
                return cast(T, end.value)
            if time.monotonic() - began >= SLICE:
                await asyncio.sleep(0)
                began = time.monotonic()
    finally:
        work.close()
