"""ClientToken: the same token and parameters have one effect and one answer, for 24 hours of lab time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from lab.cloud import errors

VALID_SECONDS = 24 * 3600.0

Answer = dict[str, object]


@dataclass(slots=True)
class _Entry:
    parameters: Mapping[str, str]
    since: float
    answer: Answer | None = None


class ClientTokens:
    """Remembers successes only: a call that failed may be repeated with its token. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}

    def begin(self, action: str, token: str, parameters: Mapping[str, str], *, now: float) -> Answer | None:
        """The answer of the first call, or None: then the caller acts, and calls ``finish`` or ``give_up``.

        Raises IdempotentParameterMismatch, or IdempotentProcessing while the first call is under way.
        """
        with self._lock:
            self._forget(now)
            entry = self._entries.get((action, token))
            if entry is None:
                self._entries[action, token] = _Entry(parameters, now)
                return None
            if entry.parameters != parameters:
                raise errors.token_reused()
            if entry.answer is None:
                raise errors.token_in_progress()
            return entry.answer

    def finish(self, action: str, token: str, answer: Answer) -> None:
        with self._lock:
            self._entries[action, token].answer = answer

    def give_up(self, action: str, token: str) -> None:
        with self._lock:
            self._entries.pop((action, token), None)

    def _forget(self, now: float) -> None:
        """Entries are in order of time, so the old ones come first."""
        for key, entry in list(self._entries.items()):
            if entry.since > now - VALID_SECONDS:
                break
            del self._entries[key]
