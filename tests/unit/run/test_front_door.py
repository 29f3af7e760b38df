"""./run in a copy of its own, with the machine's package manager replaced by scripts."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_DEADLINE = 120.0


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone has that the front door looks at; nothing is installed or built in it."""
    (tmp_path / "run").write_bytes((ROOT / "run").read_bytes())
    (tmp_path / "run").chmod(0o755)
    for name in (
        "lab",
        "control",
        "datapath",
        "cni",
        "perf",
        "tests",
        "pyproject.toml",
        "constraints.txt",
        "requirements",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    return tmp_path


def replace(clone: Path, program: str, script: str) -> None:
    path = clone / "bin" / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def bare(clone: Path, apt_get: str) -> None:
    """A machine with none of the packages, whose apt-get does ``apt_get``."""
    replace(clone, "dpkg-query", "exit 1")
    replace(clone, "dpkg", "exit 0")
    replace(clone, "unshare", "exit 0")
    replace(clone, "apt-get", apt_get)


def environment(clone: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{clone / 'bin'}:/usr/bin:/bin"}


def run(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "run", *words],
        env=environment(clone),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
    )


@contextmanager
def running(clone: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [clone / "run", *words], env=environment(clone), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_unknown_command_is_an_error_of_usage(clone: Path) -> None:
    done = run(clone, "dmeo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command dmeo" in done.stderr
    assert "usage: ./run COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--help", "usage: ./run COMMAND"),
        ("demo --help", "usage: ./run demo"),
        ("test --help", "usage: ./run test"),
        ("lab --help", "usage: terway-lab"),
        ("lab pod add -h", "usage: terway-lab pod add"),
        ("cli --help", "usage: terway-cli"),
        ("perf --help", "usage: ./run perf"),
        ("soak --help", "usage: ./run soak"),
        ("setup --help", "usage: ./run setup"),
    ],
)
def test_help_needs_no_setup(clone: Path, words: str, told: str) -> None:
    replace(clone, "id", "echo 1000")
    done = run(clone, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(told)
    assert not (clone / ".cache").exists()


def test_help_of_a_command_behind_the_dashes_is_not_ours(clone: Path) -> None:
    replace(clone, "id", "echo 1000")
    done = run(clone, "lab", "pod", "exec", "default/web", "--", "ip", "--help")
    assert "needs root" in done.stderr


def test_who_is_not_root_is_told_so(clone: Path) -> None:
    replace(clone, "id", "echo 1000")
    done = run(clone, "demo")
    assert done.returncode == 1
    assert done.stderr.startswith("run: needs root")
    assert not (clone / ".cache").exists()


def test_a_failure_of_apt_shows_its_words_and_the_log(clone: Path) -> None:
    bare(clone, 'echo "$1: no archive in reach"; exit 100')
    done = run(clone, "setup")
    assert done.returncode == 1
    assert "installing Debian packages" in done.stderr
    assert "update: no archive in reach" in done.stderr
    assert str(clone / ".cache" / "apt.log") in done.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_an_interrupted_step_is_ended(clone: Path, number: int, status: int) -> None:
    pipe = clone / "started"
    os.mkfifo(pipe)
    bare(clone, f"echo $$ > {pipe}; exec sleep 60")
    with running(clone, "setup") as process:
        step = os.pidfd_open(int(pipe.read_text()))
        try:
            process.send_signal(number)
            _, told = process.communicate(timeout=_DEADLINE)
            assert (process.returncode, "interrupted" in told) == (status, True)
            assert select.select([step], [], [], _DEADLINE)[0], "apt-get has outlived ./run"
        finally:
            os.close(step)
