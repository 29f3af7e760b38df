"""UDP at a rate that counts: how many datagrams were sent, and how many of them came.

Sender and receiver are one process of their own, which takes from the receiving socket whenever it has sent:
``python -m tests.netns.fastpath.flood SOURCE SINK RATE`` goes on until its standard input ends, waits for
what is still on its way, and prints both numbers.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from datapath import namespace
from tests.netns.datapath.world import Address
from tests.pace import SLOWER, patience

_ROOT = Path(__file__).resolve().parents[3]
_SO_RCVBUFFORCE = 33
_ROOM = 400 << 20
"""Bytes, for the seconds in which the process itself does not run."""
_ON_THE_WAY = 256
"""Datagrams at most: a CPU that is late drops what is more than its backlog (netdev_max_backlog)."""
PATIENCE = patience(10.0)
RATE = int(24_000 / SLOWER)


class Flood:
    """From ``client`` to ``address`` in ``server``, from the first line on until ``stop``."""

    def __init__(self, client: int, server: int, address: Address, *, rate: int = RATE) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._stack = ExitStack()
        with ExitStack() as ends:
            with namespace.entered(server):
                sink = ends.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            sink.bind((str(address), 0))
            with namespace.entered(client):
                source = ends.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            source.connect(sink.getsockname()[:2])
            fds = [source.fileno(), sink.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, *map(str, fds), str(rate)],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=fds,
            )
        self._stack.callback(self._end)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "the first one has come\n"
        self._began = time.monotonic()

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self) -> tuple[int, float, int]:
        """How many were sent, how many per second, and how many of them were lost."""
        elapsed = time.monotonic() - self._began
        out, _ = self._process.communicate()
        sent, received = map(int, out.split())
        return sent, sent / elapsed, sent - received

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def flow(source: socket.socket, sink: socket.socket, rate: int) -> tuple[int, int]:
    """At ``rate`` per second, or as fast as they come, until standard input has ended: sent and received."""
    os.set_blocking(0, False)
    sent, received, began = 0, 0, time.monotonic()
    while not _stdin_ended():
        due = max(int((time.monotonic() - began) * rate) - sent, 1)
        due = min(due, _ON_THE_WAY - (sent - received))
        for _ in range(due):
            source.send(b"datagram")
        if not received:
            sink.settimeout(PATIENCE)
            sink.recv(16)
            received = 1
            print("the first one has come", flush=True)
        sent += due
        received += _take(sink, sent - received)
        time.sleep(0.001)
    sink.settimeout(patience(1.0))
    try:
        while received < sent:
            sink.recv(16)
            received += 1
    except TimeoutError:
        pass
    return sent, received


def _take(sink: socket.socket, most: int) -> int:
    """What has come so far, but no more than ``most``."""
    sink.setblocking(False)
    for number in range(most):
        try:
            sink.recv(16)
        except BlockingIOError:
            return number
    return most


def _stdin_ended() -> bool:
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as ours, socket.socket(fileno=int(sys.argv[2])) as theirs:
        print(*flow(ours, theirs, int(sys.argv[3])))
