"""Programs of a control plane that are missing, cannot run, end, or are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lab.apiserver.programs import API_SERVER, ETCD, Program, find
from lab.messages import LabError


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def await_end(program: Program) -> None:
    deadline = time.monotonic() + 10
    while program.running:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_both_are_found(tmp_path: Path) -> None:
    for name in (ETCD, API_SERVER):
        script(tmp_path / name, "exit 0")
    found = find(str(tmp_path))
    assert (found.etcd, found.api_server) == (tmp_path / ETCD, tmp_path / API_SERVER)


def test_the_missing_one_is_named(tmp_path: Path) -> None:
    script(tmp_path / ETCD, "exit 0")
    with pytest.raises(LabError, match=rf"{tmp_path}/kube-apiserver is not there; kube_bin wants"):
        find(str(tmp_path))
    script(tmp_path / API_SERVER, "exit 0").chmod(0o644)
    with pytest.raises(LabError, match=r"kube-apiserver is not executable"):
        find(str(tmp_path))


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(LabError, match="'bin', wanted: an absolute path"):
        find("bin")


def test_an_end_is_told_with_the_last_lines(tmp_path: Path) -> None:
    path = script(tmp_path / "server", "for n in 1 2 3 4; do echo line $n; done; exit 3")
    program = Program(path, tmp_path / "log")
    program.start([])
    await_end(program)
    with pytest.raises(LabError) as caught:
        program.check()
    assert str(caught.value) == f"{path} ended with 3: line 2 | line 3 | line 4"


def test_an_end_without_a_word(tmp_path: Path) -> None:
    program = Program(script(tmp_path / "server", "exit 1"), tmp_path / "log")
    program.start([])
    await_end(program)
    with pytest.raises(LabError, match="ended with 1: its log is empty"):
        program.check()


def test_what_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "server"
    path.write_bytes(b"\x7fELF of another machine")
    path.chmod(0o755)
    with pytest.raises(LabError, match=rf"{path} does not start: Exec format error"):
        Program(path, tmp_path / "log").start([])


def test_killed_and_started_again(tmp_path: Path) -> None:
    program = Program(script(tmp_path / "server", "exec sleep 60"), tmp_path / "log")
    program.kill()
    for _ in range(2):
        program.start([])
        try:
            assert program.running
            program.check()
        finally:
            program.kill()
        assert not program.running


def test_environment_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example")
    program = Program(script(tmp_path / "server", 'echo "$@ ${http_proxy-none}"'), tmp_path / "log")
    program.start(["--a=1", "b c"])
    await_end(program)
    assert program.tail() == "--a=1 b c none"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_signal_is_an_end_too(tmp_path: Path) -> None:
    program = Program(script(tmp_path / "server", "kill -TERM $$"), tmp_path / "log")
    program.start([])
    await_end(program)
    with pytest.raises(LabError, match=f"ended with -{int(signal.SIGTERM)}"):
        program.check()
    assert os.path.exists(tmp_path / "log")
