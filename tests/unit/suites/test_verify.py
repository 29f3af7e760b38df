"""The suites' minutes, and the run of their short and long forms."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.suites import budget, verify
from tests.suites.budget import Budget, Form, Part, Suite

_ROOT = budget.ROOT
_PLAN = budget.read()


def test_the_short_forms_fit_together() -> None:
    taken = sum(suite.short.minutes for suite in _PLAN.suites if suite.short)
    assert 0 < taken <= _PLAN.short


def test_no_piece_is_longer_than_an_hour() -> None:
    minutes = {piece: sum(suite.long.minutes for suite in suites) for piece, suites in _PLAN.pieces().items()}
    assert {piece for piece, long in minutes.items() if long > _PLAN.piece} == set()


def test_the_parts_share_out_what_the_tests_have() -> None:
    tests = next(suite for suite in _PLAN.suites if suite.name == "test")
    assert tests.short is not None
    assert sum(part.minutes for part in _PLAN.parts) <= tests.short.minutes


def test_every_test_file_belongs_to_a_part() -> None:
    files = [str(file.relative_to(_ROOT)) for file in sorted((_ROOT / "tests").rglob("test_*.py"))]
    assert files
    assert [file for file in files if _PLAN.part_of(file) is None] == []


def test_a_test_belongs_to_the_first_part_that_has_it() -> None:
    named = _PLAN.part_of("tests/netns/fabric/test_hostile.py::test_x")
    placed = _PLAN.part_of("tests/netns/fabric/test_groups.py::test_x")
    assert named is not None
    assert placed is not None
    assert (named.name, placed.name) == ("hostile", "namespaces")


def test_every_word_is_one_of_the_front_door() -> None:
    known = subprocess.run([_ROOT / "run", "--help"], capture_output=True, text=True, check=True).stdout
    words = {form.words[0] for suite in _PLAN.suites for form in (suite.long, suite.short) if form}
    assert {word for word in words if f"\n  {word} " not in known} == set()


@pytest.fixture
def front_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``./run`` of this test's own, which does as its words say."""
    script = tmp_path / "run"
    script.write_text('#!/bin/sh\nexec "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(budget, "ROOT", tmp_path)
    return tmp_path


def suite(name: str, *words: str, minutes: float = 10) -> tuple[Suite, Form]:
    form = Form(words, minutes)
    return Suite(name, "", "piece", form, form), form


def ended(pid: str) -> bool:
    """A zombie is as good as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def plan(*parts: Part) -> Budget:
    return Budget(short=45, piece=60, last=85, suites=(), parts=parts)


@pytest.mark.usefixtures("front_door")
def test_a_suite_that_fails_keeps_none_from_running() -> None:
    outcomes = verify.run([suite("first", "false"), suite("second", "true")], last=None)
    assert [outcome.status for outcome in outcomes] == [1, 0]
    table = verify.table(plan(), outcomes)
    assert "FAILED (1)" in table
    assert "second" in table


@pytest.mark.usefixtures("front_door")
def test_what_finds_no_time_left_is_ended_and_told() -> None:
    outcomes = verify.run([suite("long", "sleep", "600"), suite("next", "true")], last=0.001)
    assert [outcome.status for outcome in outcomes] == [None, None]
    assert verify.table(plan(), outcomes).count("ENDED") == 2


@pytest.mark.usefixtures("front_door")
def test_the_table_has_the_parts_of_the_tests() -> None:
    words = ("sh", "-c", f"""echo '{{"units": 2.5}}' >"${budget.PART_TIMES}" """)
    parts = (Part("units", 1), Part("labs", 1))
    table = verify.table(plan(*parts), verify.run([suite("test", *words)], last=None))
    assert "over its budget" in next(line for line in table.splitlines() if "  units" in line)
    assert "labs" not in table


@pytest.mark.usefixtures("front_door")
def test_a_suite_over_its_minutes_is_no_failure() -> None:
    (outcome,) = verify.run([suite("slow", "true", minutes=0)], last=None)
    line = verify.table(plan(), [outcome]).splitlines()[1]
    assert outcome.status == 0
    assert line.endswith("ok, over its budget")


def test_an_unknown_piece_is_an_error_of_usage() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.suites.verify", "nosuch"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "no piece nosuch" in ended.stderr


def test_an_interrupted_run_ends_its_suite(tmp_path: Path) -> None:
    """With all that it started, at a signal to the run alone, as a CI's time limit sends it."""
    note = tmp_path / "pid"
    program = (
        "from pathlib import Path\nfrom tests.suites import budget, verify\nimport signal\n"
        f"budget.ROOT = Path({str(tmp_path)!r})\n"
        "signal.signal(signal.SIGTERM, verify._interrupted)\n"
        f"script = 'sleep 600 & echo $$ $! >{note}.new; mv {note}.new {note}; wait'\n"
        "form = budget.Form(('sh', '-c', script), 1)\n"
        "verify.run([(budget.Suite('x', '', 'p', form), form)], last=None)\n"
    )
    (tmp_path / "run").write_text('#!/bin/sh\nexec "$@"\n')
    (tmp_path / "run").chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", program], cwd=_ROOT, stderr=subprocess.DEVNULL) as process:
        while not note.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait() != 0
    # Killed, but perhaps not dead yet: that takes a moment of its own.
    while any(not ended(pid) for pid in note.read_text().split()):
        time.sleep(0.01)
