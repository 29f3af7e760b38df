"""A stand-in for terwayd: one scripted answer per connection, on a UNIX socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cni.wire import Frame, RequestParser

DEADLINE = 30.0


@dataclass
class Seen:
    """What arrived. The descriptors are closed when the daemon's context ends."""

    frames: list[Frame] = field(default_factory=list)
    descriptors: list[list[int]] = field(default_factory=list)
    connections: int = 0
    problem: BaseException | None = None


Script = Callable[[socket.socket, Seen], None]


def receive(connection: socket.socket, seen: Seen, *, piece: int = 65536) -> Frame:
    parser, descriptors = RequestParser(), list[int]()
    seen.descriptors.append(descriptors)
    while True:
        data, passed, _, _ = socket.recv_fds(connection, piece, 4)
        descriptors.extend(passed)
        if not data:
            raise AssertionError("the executable closed before its request was complete")
        frame = parser.feed(data)
        if frame is not None:
            seen.frames.append(frame)
            return frame


@contextmanager
def daemon(path: Path, *scripts: Script) -> Iterator[Seen]:
    """Serve one connection per script, in order. On leaving, a script that failed fails the test."""
    seen = Seen()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        listener.settimeout(DEADLINE)
        thread = threading.Thread(target=_serve, args=(listener, scripts, seen))
        thread.start()
        try:
            yield seen
        finally:
            thread.join(DEADLINE)
            for descriptor in (fd for fds in seen.descriptors for fd in fds):
                os.close(descriptor)
    if seen.problem is not None:
        raise seen.problem


def _serve(listener: socket.socket, scripts: tuple[Script, ...], seen: Seen) -> None:
    try:
        for script in scripts:
            connection, _ = listener.accept()
            seen.connections += 1
            with connection:
                connection.settimeout(DEADLINE)
                script(connection, seen)
    except (OSError, AssertionError, ValueError) as exc:
        seen.problem = exc
