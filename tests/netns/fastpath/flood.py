"""UDP at a rate that counts, each datagram numbered, so that one that is lost is known by name.

The sender is a process of its own: ``python -m tests.netns.fastpath.flood DESCRIPTOR RATE`` sends by the
socket it inherits until its standard input ends, and then prints how many it sent.
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
PATIENCE = patience(10.0)
RATE = int(24_000 / SLOWER)


class Flood:
    """From ``client`` to ``address`` in ``server``, from the first line on until ``stop``."""

    def __init__(self, client: int, server: int, address: Address, *, rate: int = RATE) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._stack = ExitStack()
        with namespace.entered(server):
            self._sink = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        self._sink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        self._sink.bind((str(address), 0))
        self._sink.settimeout(PATIENCE)
        with namespace.entered(client):
            source = socket.socket(family, socket.SOCK_DGRAM)
        with source:
            source.connect(self._sink.getsockname()[:2])
            command = [sys.executable, "-m", __spec__.name, str(source.fileno()), str(rate)]
            self._sender = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[source.fileno()],
            )
        self._stack.callback(self._end)
        self._seen: set[int] = set()
        self._sink.recv(16)  # it runs
        self._began = time.monotonic()

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self) -> tuple[int, float, int]:
        """How many were sent, how many per second, and how many of them were lost."""
        elapsed = time.monotonic() - self._began
        out, _ = self._sender.communicate()
        sent = int(out)
        received = 1  # the first one was taken by the constructor
        self._sink.settimeout(patience(1.0))
        try:
            while received < sent:
                self._sink.recv(16)
                received += 1
        except TimeoutError:
            pass
        return sent, sent / elapsed, sent - received

    def _end(self) -> None:
        if self._sender.poll() is None:
            self._sender.kill()
            self._sender.wait()


def send(descriptor: int, rate: int) -> int:
    """At ``rate`` per second, in bursts of what is due, until standard input has ended."""
    os.set_blocking(0, False)
    with socket.socket(fileno=descriptor) as source:
        sent, began = 0, time.monotonic()
        while True:
            due = int((time.monotonic() - began) * rate) - sent
            for number in range(sent, sent + max(due, 1)):
                source.send(number.to_bytes(8, "big"))
            sent += max(due, 1)
            try:
                if os.read(0, 1) == b"":
                    return sent
            except BlockingIOError:
                time.sleep(0.001)


if __name__ == "__main__":
    print(send(int(sys.argv[1]), int(sys.argv[2])))
