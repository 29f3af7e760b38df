"""Run a command of a node or pod with this process's own stdin, stdout and stderr, terminal included."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence

from lab.nodes.process import NodeProcess

Spawn = Callable[..., NodeProcess]


def attach(spawn: Spawn, argv: Sequence[str]) -> int:
    """The command's exit status, 128 plus the number for a signal. Ctrl-C goes to the command."""
    if os.isatty(0) and os.isatty(1):
        return _with_terminal(spawn, argv)
    with spawn(argv, (0, 1, 2)) as process:
        return _status(process.wait())


def _status(code: int) -> int:
    return code if code >= 0 else 128 - code


def _with_terminal(spawn: Spawn, argv: Sequence[str]) -> int:
    """Between our terminal and the command is a pseudo terminal, so that jobs and window sizes work there."""
    ours, theirs = os.openpty()
    path = os.ttyname(theirs)
    _copy_size(ours)
    previous = signal.signal(signal.SIGWINCH, lambda _number, _frame: _copy_size(ours))
    env = {"TERM": os.environ.get("TERM", "linux")}
    try:
        with spawn(argv, (), tty=path, env=env) as process:
            os.close(theirs)
            with _raw(0):
                _relay(ours, process)
            return _status(process.wait())
    finally:
        signal.signal(signal.SIGWINCH, previous)
        os.close(ours)


def _copy_size(to: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(to, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _relay(terminal: int, process: NodeProcess) -> None:
    """Until the command has ended and its last words are out. EIO is the end of a pseudo terminal."""
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([0, terminal, process.fileno()], [], [])
        try:
            if terminal in ready:
                _write(1, os.read(terminal, 65536))
            elif 0 in ready:
                _write(terminal, os.read(0, 65536))
            elif process.fileno() in ready:
                return
        except OSError:
            return


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
