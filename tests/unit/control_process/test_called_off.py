"""A task that waits for an event, or for time to go by, ends when it is called off, whatever moment that is.

The daemon's end calls off each of its loops once and waits for it: one that had missed it would be waited for
without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cni.wire import Frame
from control.agent.dataplane import fastpath
from control.agent.dataplane.fastpath import FastPathSwitch
from control.agent.main import Daemon
from control.agent.reconcile.inventory import Inventory
from control.model.clock import SystemClock
from control.model.errors import Cause, RequestError
from control.process import called_off as ending
from control.process.timers import Timers

STEPS = range(6)
"""Turns of the event loop between what is waited for and the end."""


def _outcome(wait: Callable[[], Awaitable[object]], happens: Callable[[], object], steps: int) -> str:
    async def run() -> str:
        task = asyncio.ensure_future(wait())
        for _ in range(3):
            await asyncio.sleep(0)
        happens()
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            return "had ended"
        task.cancel()
        await asyncio.wait([task])
        return "called off" if task.cancelled() else "missed it"

    return asyncio.run(run())


@pytest.mark.parametrize("steps", STEPS)
def test_sleep(steps: int) -> None:
    timers = Timers(SystemClock())
    assert _outcome(lambda: timers.sleep(60.0), lambda: timers.advance(60.0), steps) != "missed it"


@pytest.mark.parametrize("steps", STEPS)
def test_round_of_the_fast_path(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastpath, "CALM", 0.0)
    wake = asyncio.Event()
    switch: Any = SimpleNamespace(_wake=wake, _companion=SimpleNamespace(learn=lambda: True))
    assert _outcome(lambda: FastPathSwitch._woken(switch), wake.set, steps) != "missed it"


@pytest.mark.parametrize("steps", STEPS)
def test_start_that_waits_for_the_witnesses(steps: int) -> None:
    asked = asyncio.Event()
    inventory: Any = SimpleNamespace(_asked_once=asked)
    assert _outcome(lambda: Inventory.asked_once(inventory, 60.0), asked.set, steps) != "missed it"


@pytest.mark.parametrize("steps", STEPS)
def test_request_that_waits_for_the_start(steps: int) -> None:
    """A runtime that has hung up: nothing is set up for nobody."""
    decided, why = asyncio.Event(), RequestError("starting", cause=Cause.BUSY)
    daemon: Any = SimpleNamespace(_decided=decided, _why=why, _node=None, _refusal=lambda _: why)
    frame = Frame({"CNI_COMMAND": "ADD"}, b"{}")
    assert _outcome(lambda: Daemon.handle(daemon, frame, None), decided.set, steps) != "missed it"


def test_who_does_not_end_is_told_of_and_called_off_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ending, "PATIENCE", 0.01)

    async def deaf(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def failing() -> None:
        raise ValueError

    async def run() -> None:
        tasks = [asyncio.create_task(work) for work in (deaf(3), failing(), asyncio.sleep(60))]
        tasks[0].set_name("a deaf one")
        await asyncio.sleep(0)
        await ending.called_off(*tasks)
        assert all(task.done() for task in tasks)
        await ending.called_off()

    asyncio.run(run())
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert all("a deaf one has not ended" in one and "deaf:" in one for one in told)
