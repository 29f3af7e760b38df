"""Work in steps, between which the event loop serves whoever waits."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar, cast

from datapath.pausing import Pausing

T = TypeVar("T")

SLICE = 0.001
"""Seconds that a piece of work may have at a time; a step that is longer has the slice for itself."""
REST = 0.002
"""Seconds that the loop is everybody else's after a slice: a request to the CNI passes the loop four times in
as long, and would meet a slice each time if the next began at once. No work of this kind is in a hurry."""


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
                await asyncio.sleep(REST)
                began = time.monotonic()
    finally:
        work.close()
