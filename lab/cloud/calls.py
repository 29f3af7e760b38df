"""Which calls came, from whom and how they ended: a test counts what an agent asks of the cloud."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

KEPT = 5000


@dataclass(frozen=True, slots=True)
class Call:
    """``code`` is "" for a success, else the error code or ``Dropped``. ``at`` is the lab's time."""

    action: str
    at: float
    caller: str
    """Access key id or role of the credentials, and the address the call came from."""
    code: str
    request_id: str


class CallLog:
    """Counts every call that was made since the last reset, and keeps the last ``KEPT``. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._recent: deque[Call] = deque(maxlen=KEPT)

    def add(self, call: Call) -> None:
        with self._lock:
            self._counts[call.action] += 1
            self._recent.append(call)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def recent(self) -> tuple[Call, ...]:
        """Oldest first."""
        with self._lock:
            return tuple(self._recent)

    def reset(self) -> None:
        with self._lock:
            self._counts.clear()
            self._recent.clear()
