"""When a node's program is started again, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.messages import Value
from lab.nodes.kept import KeptPrograms

REQUEST: Value = {"argv": ["kubelet"], "label": "kubelet", "again": 2.0}


class Starts:
    """Gives out pids from 11 on, unless ``wrong`` is raised."""

    def __init__(self) -> None:
        self.seen: list[Value] = []
        self.wrong: OSError | None = None

    def __call__(self, request: Value, _files: list[int]) -> int:
        if self.wrong is not None:
            raise self.wrong
        self.seen.append(request)
        return 10 + len(self.seen)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "kubelet.log"


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def kept(starts: Starts, log: Path) -> KeptPrograms:
    """With one program, pid 10; it ends at no time by itself."""
    programs = KeptPrograms(starts)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    programs.add(10, REQUEST, [file, file, file])
    os.close(file)
    return programs


def test_nothing_is_due_while_it_runs(kept: KeptPrograms, starts: Starts) -> None:
    kept.start_due(100.0)
    assert (kept.timeout(0.0), starts.seen) == (None, [])


def test_it_is_started_again_after_its_pause(kept: KeptPrograms, starts: Starts, log: Path) -> None:
    kept.ended(10, -9, 100.0)
    assert kept.timeout(100.5) == 1.5
    kept.start_due(101.9)
    assert starts.seen == []
    kept.start_due(102.0)
    assert starts.seen == [REQUEST]
    assert kept.timeout(102.0) is None
    assert kept.describe() == {"kubelet": {"ends": 1, "last": "was killed by SIGKILL"}}
    assert log.read_text() == "kubelet was killed by SIGKILL; it is started again in 2 s\n"


def test_each_end_counts_and_ends_of_others_do_not(kept: KeptPrograms) -> None:
    kept.ended(99, 0, 100.0)
    assert kept.timeout(100.0) is None
    kept.ended(10, 1, 100.0)
    kept.start_due(102.0)
    kept.ended(11, 2, 103.0)
    assert kept.describe() == {"kubelet": {"ends": 2, "last": "ended with status 2"}}
    assert kept.timeout(103.0) == 2.0


def test_a_start_that_fails_is_tried_again(kept: KeptPrograms, starts: Starts) -> None:
    kept.ended(10, 1, 100.0)
    starts.wrong = FileNotFoundError(2, "No such file or directory")
    kept.start_due(102.0)
    assert kept.timeout(102.0) == 2.0
    assert "did not start" in kept.describe()["kubelet"]["last"]
    starts.wrong = None
    kept.start_due(104.0)
    assert starts.seen == [REQUEST]
