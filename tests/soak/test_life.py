"""How long a run goes on, and that it never ends without having looked."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.soak import __main__ as command
from tests.soak import resources, wire
from tests.soak.resources import LOG, Gauge
from tests.soak.run import Run
from tests.soak.step import QUIET, Step
from tests.soak.world import World

ADD = Step("add", {"node": 0, "slot": 1})


def _life(
    monkeypatch: pytest.MonkeyPatch, given: Sequence[Step], *, seconds: float = 60.0, steps: int | None = None
) -> list[str]:
    """Verbs of a run in which every step succeeds."""

    def take(run: Run, _made: World, _gauges: list[Gauge], step: Step) -> None:
        run._since = 0 if step.verb == QUIET else run._since + 1

    monkeypatch.setattr(Run, "_take", take)
    run = Run("none", 1, seconds, Path("nowhere"), steps=steps)
    run._life(cast(World, None), [], given)
    return [one.verb for one in run.taken]


def test_the_last_step_is_a_quiet_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _life(monkeypatch, [ADD, ADD]) == ["add", "add", QUIET], "of a file that ends without one"
    assert _life(monkeypatch, [ADD, Step(QUIET)]) == ["add", QUIET]
    assert _life(monkeypatch, [ADD, ADD, ADD], steps=2) == ["add", "add", QUIET]
    assert _life(monkeypatch, [ADD, Step(QUIET), ADD], steps=2) == ["add", QUIET]


def test_a_run_whose_time_went_by_in_its_start_looks_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _life(monkeypatch, [ADD], seconds=0.0) == [QUIET]


def test_named_steps_are_taken_however_long_they_take(tmp_path: Path) -> None:
    def limit(*words: str) -> float:
        return command.seconds(command.parser().parse_args(words))

    assert limit() == 600.0
    assert limit("--steps", "90") == limit("--replay", str(tmp_path)) == float("inf")
    assert limit("--steps", "90", "--minutes", "3") == 180.0


@pytest.mark.parametrize(("last", "steps"), [(Step(QUIET), 2), (ADD, 3)])
def test_what_a_failure_says_takes_its_steps_again(tmp_path: Path, last: Step, steps: int) -> None:
    """The quiet moment in which a run's time ended is none of the plan's: it is not counted."""
    run = Run("none", 7, 60.0, tmp_path, out=io.StringIO(), taken=[ADD, ADD, last])
    run._failed(cast(World, SimpleNamespace(sites=())), [(LOG, "too many")])
    assert f"Again: ./run soak --seed 7 --steps {steps}\n" in cast(io.StringIO, run.out).getvalue()


def test_a_file_is_no_seeds(tmp_path: Path) -> None:
    run = Run("none", 7, 60.0, tmp_path, planned=False, out=io.StringIO(), taken=[ADD])
    run._failed(cast(World, SimpleNamespace(sites=())), [(LOG, "too many")])
    assert "Again: ./run soak --replay" in cast(io.StringIO, run.out).getvalue()
    assert "--seed" not in cast(io.StringIO, run.out).getvalue()


def _gauge(log: Path) -> Gauge:
    node = SimpleNamespace(directory=SimpleNamespace(outside=lambda _path: log))
    return Gauge(cast(Any, SimpleNamespace(name="calm", node=node, causes=set(), linkless=[])))


def test_an_agent_that_says_a_thing_again_and_again_in_a_hush_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = "2026-01-01 00:00:0{},000 I control.agent.allocation.pool: the pool is looked at\n"
    log.write_text("".join(line.format(n) for n in range(resources.SAME_LINES)))
    gauge = _gauge(log)
    assert list(gauge.chatter()) == []
    with log.open("a") as file:
        file.writelines(line.format(n) for n in range(resources.SAME_LINES + 1))
    ((invariant, told),) = gauge.chatter()
    assert invariant == LOG
    assert "the pool is looked at" in told


def test_a_traceback_in_a_hush_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("2026-01-01 00:00:00,000 E x: repair failed in a way nobody foresaw\nTraceback ...\n")
    assert [invariant for invariant, _ in _gauge(log).chatter()] == [resources.ALARM]


@pytest.mark.parametrize("trouble", [OSError(101, "Network is unreachable"), PermissionError(1, "no")])
def test_a_pod_that_may_not_send_is_silent_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, trouble: OSError
) -> None:
    def reaches(*_: object) -> bool:
        raise trouble

    monkeypatch.setattr(wire, "reaches", reaches)
    assert not wire.reaches_outside(
        cast(Any, SimpleNamespace(netns_fd=lambda: os.open(os.devnull, os.O_RDONLY)))
    )
