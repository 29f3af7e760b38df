"""Control groups of a lab that ends on a machine that is slow to let go of them. Real groups, no lab."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.nodes import cgroups

DEADLINE = 60.0


@pytest.fixture
def top() -> Iterator[Path]:
    """An empty group that takes processes, in a hierarchy of the machine."""
    found = [h for h in cgroups.hierarchies() if "cpuset" not in h.controllers.split(",")]
    if not found:
        pytest.skip("no control groups")
    made = found[0].lab(f"groups-{os.getpid()}")
    made.mkdir()
    yield made
    with contextlib.suppress(FileNotFoundError):
        cgroups.remove(made, deadline=time.monotonic() + DEADLINE)


@contextlib.contextmanager
def process_in(group: Path) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        (group / "cgroup.procs").write_text(str(child.pid))
        yield child
    finally:
        child.kill()
        child.wait()


class Removal:
    """``remove`` in a thread, with whatever it raises."""

    def __init__(self, top: Path, seconds: float) -> None:
        self.failure: OSError | None = None
        self._top, self._seconds = top, seconds
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            cgroups.remove(self._top, deadline=time.monotonic() + self._seconds)
        except OSError as exc:
            self.failure = exc

    def is_over(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()


def test_the_last_process_is_waited_for(top: Path) -> None:
    below = top / "node" / "pod"
    below.mkdir(parents=True)
    with process_in(below) as child:
        removal = Removal(top, DEADLINE)
        assert not removal.is_over(0.2)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert removal.is_over(DEADLINE)
    assert removal.failure is None
    assert not top.exists()


def test_a_group_that_is_made_meanwhile_goes_too(top: Path) -> None:
    """A runtime that is dying makes one more: it was never looked for again, and its parent stayed busy."""
    node = top / "node"
    node.mkdir()
    with process_in(node):
        removal = Removal(top, 5.0)
        assert not removal.is_over(0.2)
        (node / "late").mkdir()
        (node / "late" / "later").mkdir()
    assert removal.is_over(DEADLINE)
    assert removal.failure is None
    assert not top.exists()


def test_what_does_not_end_is_named(top: Path) -> None:
    node = top / "node"
    node.mkdir()
    with process_in(node) as child:
        with pytest.raises(OSError, match=f"{node} with {child.pid} ") as refused:
            cgroups.remove(top, deadline=time.monotonic() + 0.2)
        assert refused.value.errno == errno.EBUSY


def test_what_is_gone_is_removed(top: Path) -> None:
    cgroups.remove(top / "never", deadline=time.monotonic())
