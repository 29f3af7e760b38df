"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

_POLL = 0.01


def wait_for(what: str, condition: Callable[[], bool], *, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout:.0f} s: {what}"
        time.sleep(_POLL)
