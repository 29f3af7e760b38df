"""The loop that makes the fabric what the cloud says it is: level-triggered, woken by change or by time."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol

from lab.clock import LabClock
from lab.fabric.view import FabricView
from lab.messages import LabError

_RETRY = 0.2
"""Seconds until the next try after a failed one: a namespace may be ending just now."""


class ViewSource(Protocol):
    def fabric_view(self) -> FabricView: ...
    def next_change(self, now: float) -> float | None: ...
    def on_change(self, callback: Callable[[], None]) -> None: ...


class Reconciler:
    """``apply`` is called with nothing and must compare wanted with actual by itself."""

    def __init__(self, source: ViewSource, clock: LabClock, apply: Callable[[], None]) -> None:
        self._source = source
        self._clock = clock
        self._apply = apply
        self._changed = threading.Condition()
        self._wanted = 1
        self._done = 0
        self._error = ""

    def start(self) -> None:
        self._source.on_change(self.wake)
        self._clock.on_advance(self.wake)
        threading.Thread(target=self._loop, name="reconcile", daemon=True).start()

    def wake(self) -> None:
        """Look again soon. Never blocks for long."""
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()

    def settle(self, timeout: float = 120.0) -> None:
        """Look now and wait until it is done. Raises LabError with the reason if it cannot be."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._wanted += 1
            mine = self._wanted
            self._changed.notify_all()
            while self._done < mine:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise LabError(f"the fabric did not follow in {timeout:.0f} s: {self._error or 'busy'}")

    def _loop(self) -> None:
        while True:
            with self._changed:
                target = self._wanted
            began = self._clock.now()
            self._error = self._try()
            with self._changed:
                if not self._error:
                    self._done = target
                    self._changed.notify_all()
                pause = _RETRY if self._error else self._until_due(began)
                if self._wanted == target:
                    self._changed.wait(pause)

    def _try(self) -> str:
        try:
            self._apply()
        except Exception as exc:  # noqa: BLE001  # the loop is the lab's heart: log, say so in status, try again
            traceback.print_exc()
            return f"{type(exc).__name__}: {exc}"
        return ""

    def _until_due(self, seen: float) -> float | None:
        """Of the first change after ``seen``, which may have come true while that state was applied."""
        due = self._source.next_change(seen)
        return None if due is None else max(0.0, due - self._clock.now())

    @property
    def error(self) -> str:
        """Why the last try failed, "" if it did not."""
        return self._error
