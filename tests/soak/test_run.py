"""A run's end: of itself, by a signal, by being stuck. Its lab is gone each time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.client import Lab
from lab.statedir import LabDir
from tests.e2e.witnesses import until
from tests.soak import step
from tests.soak.step import QUIET, Step

ROOT = Path(__file__).resolve().parents[2]
END = 900.0
"""Seconds for the end of a run of seconds: what is broken, not what is slow."""

STEPS = [
    Step("add_many", {"node": 0, "slots": (1, 2)}),
    Step("add", {"node": 1, "slot": 1}),
    Step("remake", {"node": 0, "slot": 1, "late": "after"}),
    Step(QUIET),
    Step("delete", {"node": 0, "slot": 2, "netns": "gone", "object": True}),
    Step("kill_agent", {"node": 0, "signal": "KILL", "slots": (3,), "after": 0.05}),
    Step(QUIET),
]

STUCK = """
import sys, time
from pathlib import Path
from tests.soak import run
from tests.soak.step import Step

def check(world, **values):
    made.stuck = 0.1
    time.sleep(3600)

run.VERBS["check"] = check
made = run.Run(sys.argv[1], 1, 60.0, Path(sys.argv[2]))
sys.exit(made.go([Step("check")]))
"""


@contextmanager
def running(name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()  # and with it, its lab
        process.wait()
        until(LabDir.of(name).root.exists, lambda there: not there, seconds=END)


def test_steps_of_a_file_are_taken_and_all_holds(tmp_path: Path) -> None:
    name = f"soak-replayed-{os.getpid()}"
    step.write(tmp_path / "steps.jsonl", STEPS)
    with running(name, "-m", "tests.soak", "--name", name, "--replay", str(tmp_path / "steps.jsonl")) as run:
        said, complaints = run.communicate(timeout=END)
        assert run.returncode == 0, said + complaints
        assert said.count("in order after") == 2
        assert f"OK: {len(STEPS)} steps and 2 quiet moments" in said
        assert not LabDir.of(name).root.exists()


def test_a_signal_ends_a_run_and_its_lab() -> None:
    name = f"soak-interrupted-{os.getpid()}"
    with running(name, "-m", "tests.soak", "--name", name, "--seed", "1", "--verbose") as run:
        assert run.stdout is not None
        assert "seed 1" in run.stdout.readline()
        assert run.stdout.readline().startswith("#1"), "the first step is taken"
        run.send_signal(signal.SIGTERM)
        _, complaints = run.communicate(timeout=END)
        assert (run.returncode, "interrupted after" in complaints) == (130, True), complaints
        assert not LabDir.of(name).root.exists()


def test_a_run_that_is_killed_leaves_no_lab_though_an_agent_is_stuck() -> None:
    name = f"soak-killed-{os.getpid()}"
    with running(name, "-m", "tests.soak", "--name", name, "--seed", "1", "--verbose") as run:
        assert run.stdout is not None
        until(run.stdout.readline, lambda line: line.startswith("#1 "), seconds=END)
        pid = Lab.attach(name).node("calm").agent_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        stuck = os.pidfd_open(pid)
        try:
            run.kill()
            until(LabDir.of(name).root.exists, lambda there: not there, seconds=END)
            assert select.select([stuck], [], [], END)[0], "the agent has ended, too"
        finally:
            os.close(stuck)


def test_a_run_in_which_nothing_moves_ends_itself(tmp_path: Path) -> None:
    name = f"soak-stuck-{os.getpid()}"
    with running(name, "-c", STUCK, name, str(tmp_path)) as run:
        said, complaints = run.communicate(timeout=END)
        assert (run.returncode, "FAILED: stuck" in said) == (1, True), said + complaints
        assert "time.sleep" in complaints or "in check" in complaints, "where it was stuck"
        assert not LabDir.of(name).root.exists()
