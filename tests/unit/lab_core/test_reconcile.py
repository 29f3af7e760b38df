"""The loop behind the fabric: what becomes true while a state is being applied is applied next."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lab.clock import LabClock
from lab.engine.reconcile import Reconciler
from lab.fabric.view import FabricView

_DEADLINE = 60.0


class _SlowClock(LabClock):
    """Moves on without telling anybody, as time does."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def now(self) -> float:
        return self.time


class _Source:
    """One change, due at 1."""

    def fabric_view(self) -> FabricView:
        raise AssertionError("only the applying function looks")

    def next_change(self, now: float) -> float | None:
        return 1.0 if now < 1.0 else None

    def on_change(self, callback: Callable[[], None]) -> None:
        pass


def test_change_that_comes_true_during_an_apply_is_not_slept_through() -> None:
    clock, seen, done = _SlowClock(), list[float](), threading.Event()

    def apply() -> None:
        seen.append(clock.time)
        if clock.time >= 1.0:
            done.set()
        clock.time = 2.0

    Reconciler(_Source(), clock, apply).start()
    assert done.wait(_DEADLINE), f"applied at {seen} only"
    assert seen[:2] == [0.0, 2.0]
