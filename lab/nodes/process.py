"""A process in a node as its starter sees it: much like ``subprocess.Popen``, but it is the node's child.

It is held by a pidfd, so a signal never reaches another process, and its exit status comes over the
connection to the node's process 1. When that connection ends, so does the process, unless it is detached.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab import messages
from lab.messages import LabError


def pid_of(pidfd: int) -> int | None:
    """The pid that a pidfd's process has here, None if it has ended and was reaped."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pid":
            return int(value) if int(value) > 0 else None
    return None


def ended(pidfd: int, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for the end of a process."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


class NodeProcess:
    """``seconds`` is the time from its start to its end as process 1 of the node saw it.

    ``stdin``, ``stdout`` and ``stderr`` are the caller's ends of pipes, None where it gave a file.
    """

    def __init__(self, argv: Sequence[str], connection: socket.socket, pidfd: int) -> None:
        self.args = list(argv)
        self.returncode: int | None = None
        self.seconds = 0.0
        self.stdin: int | None = None
        self.stdout: int | None = None
        self.stderr: int | None = None
        self._connection = connection
        self._pidfd = pidfd
        self.pid = pid_of(pidfd)

    def fileno(self) -> int:
        """The pidfd: readable once the process has ended."""
        return self._pidfd

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self._read_status()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._read_status()
        assert self.returncode is not None
        return self.returncode

    def _read_status(self) -> None:
        try:
            received = messages.receive(self._connection)
        except (OSError, LabError):
            received = None
        # The node has ended, and every process with it.
        report = {"code": -signal.SIGKILL, "seconds": 0.0} if received is None else received[0]["ok"]
        self.returncode, self.seconds = int(report["code"]), float(report["seconds"])

    def send_signal(self, number: int) -> None:
        """To this process alone; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of the process and of the pipes to it. It is killed unless it was started detached."""
        for end in (self.stdin, self.stdout, self.stderr, self._pidfd):
            if end is not None:
                messages.close([end])
        self.stdin = self.stdout = self.stderr = None
        self._connection.close()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.returncode is None:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(5.0)
        self.close()


class Scratch:
    """An unnamed file in memory: a process's stdin with ``content``, or where its output goes."""

    def __init__(self, content: bytes = b"") -> None:
        self.fd = os.memfd_create("lab", os.MFD_CLOEXEC)
        if content:
            os.write(self.fd, content)
            os.lseek(self.fd, 0, os.SEEK_SET)

    def read(self) -> bytes:
        size = os.fstat(self.fd).st_size
        return os.pread(self.fd, size, 0)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def until(deadline: float) -> float:
    """Seconds left until ``deadline`` of time.monotonic, at least 0."""
    return max(0.0, deadline - time.monotonic())
