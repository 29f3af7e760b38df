"""Tasks that are called off at the end: each is waited for, and one that does not end is told of."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds until a task that has not ended is told of by name, and called off again: it, or what it leans on,
has lost the first time, and the daemon's end must not wait for it without end."""


async def called_off(*tasks: asyncio.Task[Any]) -> None:
    """Until all have ended, however they do."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=PATIENCE)
        for task in pending:
            where = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in task.get_stack()]
            log.warning("%s has not ended in %.0f s: at %s", task.get_name(), PATIENCE, ", ".join(where))
    for task in tasks:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.debug("%s ended with %r", task.get_name(), failure)
