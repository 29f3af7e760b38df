"""The base images are made once, and anew when a part changes; their sandbox process ends when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.kubernetes import images
from lab.messages import LabError


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "coredns").write_bytes(b"dns")
    shell = tmp_path / "bin" / "busybox"
    shell.write_text("#!/bin/sh\nprintf 'busybox\\nls\\nsh\\n'\n")
    shell.chmod(0o755)
    return tmp_path / "bin"


@pytest.fixture
def pause(tmp_path: Path) -> Path:
    return images.pause_program(tmp_path)


def test_three_archives_made_once(bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_BUSYBOX", bin_dir / "busybox")
    made = images.base(bin_dir, tmp_path / "cache")
    assert [path.name for path in made] == ["pause.tar", "busybox.tar", "coredns.tar"]
    before = {path: path.stat().st_ino for path in made}
    images.base(bin_dir, tmp_path / "cache")
    assert {path: path.stat().st_ino for path in made} == before
    newer = made[2].stat().st_mtime + 10
    os.utime(bin_dir / "coredns", (newer, newer))
    images.base(bin_dir, tmp_path / "cache")
    assert [path for path in made if path.stat().st_ino != before[path]] == [made[2]]


def test_the_names_of_a_shell(bin_dir: Path) -> None:
    assert images.applets(bin_dir / "busybox") == (("bin/ls", "busybox"), ("bin/sh", "busybox"))
    assert images.applets(bin_dir / "busybox", without=["sh"]) == (("bin/ls", "busybox"),)


def test_without_busybox_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_BUSYBOX", tmp_path / "missing")
    with pytest.raises(LabError, match="missing is not there; install the Debian package busybox-static"):
        images.busybox()


def test_a_busybox_with_libraries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_BUSYBOX", Path("/bin/ls"))
    with pytest.raises(LabError, match="/bin/ls needs libraries"):
        images.busybox()


def await_sleep(pid: int) -> None:
    """Until the process waits for signals, its only sleep: before that the first one would end it."""
    deadline = time.monotonic() + 10
    while "State:\tS" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_sandbox_process_ends_by_signal(pause: Path, number: signal.Signals) -> None:
    with subprocess.Popen([str(pause)]) as process:
        try:
            await_sleep(process.pid)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGUSR1)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
            process.send_signal(number)
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_the_sandbox_process_needs_no_library(pause: Path) -> None:
    assert b"/ld-" not in pause.read_bytes()


def test_two_first_clusters_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def compile_(argv: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        output = Path(argv[argv.index("-o") + 1])
        output.touch()
        both.wait(10)
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr("subprocess.run", compile_)
    with ThreadPoolExecutor(2) as pool:
        made = [each.result(20) for each in [pool.submit(images.pause_program, tmp_path) for _ in range(2)]]
    assert made == [tmp_path / "pause"] * 2
    assert list(tmp_path.iterdir()) == [tmp_path / "pause"]
