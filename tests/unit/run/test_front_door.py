"""./run in a copy of its own, with the machine's package manager replaced by scripts."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control.cli.version import VERSION

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
        ("lab --help", "usage: ./run lab"),
        ("lab pod add -h", "usage: ./run lab pod add"),
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


def installed(clone: Path, pip: str) -> None:
    """A machine that has the packages of Debian, whose Python makes an environment where pip does ``pip``."""
    replace(clone, "dpkg-query", 'shift 2; for p; do echo "$p installed"; done')
    replace(clone, "unshare", "exit 0")
    pip_call = f'case "$*" in "-m pip --version" | -c*) exit 0;; "-m pip install"*) {pip};; *) exit 1;; esac'
    (clone / "fake-python").write_text(f"#!/bin/sh\n{pip_call}\n")
    (clone / "fake-python").chmod(0o755)
    (clone / ".cache/venv/bin").mkdir(parents=True)
    (clone / ".cache/venv/bin/python").symlink_to(clone / "fake-python")
    ask = ["/usr/bin/python3", "-c", "import sys; print(sys.executable)"]
    system = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    command = f"command = {system} -m venv {clone}/.cache/venv\n"
    (clone / ".cache/venv/pyvenv.cfg").write_text(command)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full: "),
        ("NewConnectionError: Temporary failure in name resolution", "is this machine offline?"),
        ("something unheard of", ""),
    ],
)
def test_a_failure_of_pip_says_why_in_lines_of_its_own(clone: Path, log: str, reason: str) -> None:
    installed(clone, f'printf "Collecting x\\n%s" "{log}"; exit 1')
    done = run(clone, "setup")
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert log in lines, "the log's last line stands alone"
    assert lines[-1].startswith("run: pip failed; the whole log is in ")
    assert (reason in done.stderr) if reason else ("[setup] failed" not in done.stderr)
    if reason:
        assert lines.index(next(line for line in lines if reason in line)) < lines.index(log)


def test_a_full_disk_is_seen_before_anything_is_done(clone: Path) -> None:
    bare(clone, f"touch {clone}/called; exit 1")
    replace(clone, "df", 'echo "Filesystem 1M Used Available Capacity Mounted"; echo "x 100 60 40 60% /"')
    done = run(clone, "demo")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"run: Python packages need 700 MiB at {clone}/.cache, where 40 MiB are free (1.3 GB in all); "
        "nothing has been changed"
    )
    assert not (clone / "called").exists()


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_any_shell_may_be_told_to_run_it(clone: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    done = subprocess.run([shell, clone / "run", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ./run COMMAND")


def test_the_version_is_the_projects(clone: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    done = run(clone, "--version")
    assert (done.returncode, done.stdout.split()[:2]) == (0, [project["name"], project["version"]])


def test_terway_cli_says_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


@pytest.mark.parametrize(
    "words",
    ["", "nosuch", "perf", "perf nosuch", "lab", "lab nosuch", "demo --nosuch"],
)
def test_an_error_of_usage_is_2_everywhere(words: str) -> None:
    """In the clone of these tests: it has been set up, but for what a cluster needs."""
    done = subprocess.run(
        [ROOT / "run", *words.split()], capture_output=True, text=True, check=False, timeout=_DEADLINE
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: " in done.stderr


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("demo --name taken", True),
        ("demo --nodes 2 --name=taken", True),
        ("lab up --name taken", True),
        ("lab --name taken up", True),
        ("demo --name free", False),
        ("lab status --name taken", False),
    ],
)
def test_a_taken_name_is_refused_before_anything_is_installed(clone: Path, line: str, refused: bool) -> None:
    bare(clone, f"touch {clone}/called; exit 1")
    # A path of a socket is short, and pytest's are not.
    with tempfile.TemporaryDirectory() as labs, socket.socket(socket.AF_UNIX) as listener:
        (Path(labs) / "taken").mkdir()
        owner = {"clone": "/somewhere/else", "pid": 4711, "since": 0}
        (Path(labs) / "taken/owner.json").write_text(json.dumps(owner))
        listener.bind(f"{labs}/taken/control.sock")
        listener.listen()
        done = subprocess.run(
            [clone / "run", *line.split()],
            env={**environment(clone), "TERWAY_LAB_DIR": labs},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
    assert done.returncode == 1
    assert (clone / "called").exists() is not refused
    told = "run: lab 'taken' is up already (of /somewhere/else, pid 4711, for "
    assert done.stderr.startswith(told) is refused
    if refused:
        assert "end it with `./run lab down --name taken`, or choose another --name" in done.stderr
