"""Datagrams by number and streams by byte between pods, for as long as something is done to their nodes.

One sender, one receiver and one for all streams (``load.c``), so that three processes are all it takes. A
datagram that does not come is known by its number, and so by when it was sent.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol

from datapath import namespace
from tests.e2e.witnesses import until

RATE = 6500
"""Datagrams per second of each flow."""
WANTED = 20_000
"""Datagrams per second of all flows together, or a test has shown nothing."""
STREAM_RATE = 8 << 20
"""Bytes per second of each direction of a stream."""
SECONDS = 2.0
"""For which each disturbance is looked at, at least: over less a rate says little."""
_ROOM = 64 << 20
_SO_RCVBUFFORCE = 33

Evidence = Callable[[], Mapping[str, int]]


class Pod(Protocol):
    """Whoever has a network namespace and addresses in it: a pod of the lab, or of a cluster."""

    @property
    def key(self) -> str: ...
    @property
    def ipv4(self) -> IPv4Address: ...
    @property
    def ipv6(self) -> IPv6Address | None: ...
    def netns_fd(self) -> int:
        """The caller's."""


@dataclass(frozen=True, slots=True)
class Way:
    """Which pod speaks to which, by IPv4 or IPv6."""

    client: Pod
    server: Pod
    version: int

    def __str__(self) -> str:
        return f"{self.client.key} to {self.server.key} by IPv{self.version}"

    def address(self) -> IPv4Address | IPv6Address:
        found = self.server.ipv4 if self.version == 4 else self.server.ipv6
        assert found is not None, f"{self.server.key} has no IPv{self.version} address"
        return found

    def socket(self, pod: Pod, kind: socket.SocketKind, stack: ExitStack) -> socket.socket:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        fd = pod.netns_fd()
        try:
            with namespace.entered(fd):
                return stack.enter_context(socket.socket(family, kind))
        finally:
            os.close(fd)


def compiled(directory: Path) -> Path:
    tool = directory / "load"
    source = Path(__file__).with_name("load.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(tool), str(source)], check=True)
    return tool


@dataclass(slots=True)
class Sent:
    """Datagrams during a block of ``Load.unharmed``, once it has ended; every one has come."""

    datagrams: int = 0
    seconds: float = 0.0


class Load:
    """Flows of datagrams one way, streams of bytes both ways, until it is closed."""

    def __init__(self, tool: Path, *, flows: Sequence[Way], streams: Sequence[Way]) -> None:
        self._tool, self._flows = tool, flows
        self._stack = ExitStack()
        with ExitStack() as undo, ExitStack() as sockets:
            undo.callback(self._stack.close)
            pairs = [_datagrams(one, sockets) for one in flows]
            ends = [_stream(one, sockets) for one in streams]
            both_ways = [end for a, b in ends for end in (a, b, b, a)]
            self._receiver = self._run(["receive"], [sink for _, sink in pairs])
            self._mover = self._run(["stream", str(STREAM_RATE)], both_ways)
            self._sender = self._run(["send", str(RATE)], [source for source, _ in pairs])
            undo.pop_all()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def unharmed(self, evidence: Evidence) -> Iterator[Sent]:
        """Nothing of what is sent during the block is lost or doubled, and no stream breaks or stops.

        Nor was anything since the block before. ``evidence`` is read before and after; what has grown is
        told together with a loss.
        """
        before = evidence()
        first, began = self._sent(), time.monotonic()
        assert not (lost := self._lost(first, first, 0.0)), f"before this: {'; '.join(lost)}"
        sent = Sent()
        yield sent
        self.go_on(began + SECONDS - time.monotonic())
        last, elapsed = self._sent(), time.monotonic() - began
        sent.datagrams, sent.seconds = sum(last) - sum(first), elapsed
        rate = sent.datagrams / elapsed
        lost = self._lost(first, last, elapsed)
        assert not lost, f"{'; '.join(lost)}; at {rate:.0f} per second; {_grown(before, evidence())}"
        self._streams_go_on()
        assert rate >= WANTED, f"this machine is too busy to tell: only {rate:.0f} datagrams per second"

    def go_on(self, seconds: float) -> None:
        """Until so much more was sent as the flows send in so many seconds; at once if there are none."""
        if seconds > 0:
            enough = sum(self._sent()) + seconds * RATE * len(self._flows)
            until(lambda: sum(self._sent()), lambda sent: sent >= enough, seconds=10 * seconds)

    def _sent(self) -> list[int]:
        return _ask(self._sender)

    def _lost(self, first: Sequence[int], last: Sequence[int], elapsed: float) -> list[str]:
        """Of what each flow has sent since the last question; a line for each flow that lost something."""
        answer = _ask(self._receiver, *last)
        found = []
        for i, way in enumerate(self._flows):
            lost, begin, end, doubled = answer[4 * i : 4 * i + 4]
            if lost or doubled:
                rate = (last[i] - first[i]) / elapsed if elapsed else RATE
                at, to = ((number - first[i]) / rate for number in (begin, end))
                when = f" from second {at:.3f} to {to:.3f}" if lost else ""
                found.append(f"{way}: {lost} of {last[i] - first[i]} lost{when}, {doubled} doubled")
        return found

    def _streams_go_on(self) -> None:
        """A second's worth from now on in each direction."""
        wanted = [came + STREAM_RATE for came in _ask(self._mover)]
        until(lambda: _ask(self._mover), lambda now: all(n > w for n, w in zip(now, wanted, strict=True)))

    def _run(self, words: list[str], sockets: Sequence[socket.socket]) -> subprocess.Popen[str]:
        fds = [one.fileno() for one in sockets]
        process = subprocess.Popen(
            [str(self._tool), *words, *map(str, fds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=tuple(set(fds)),
        )
        self._stack.callback(_end, process)
        return process


def _ask(process: subprocess.Popen[str], *numbers: int) -> list[int]:
    """Raises AssertionError with what the process said if it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(" ".join(map(str, numbers)) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    assert answer, f"the load has ended: {process.stderr.read().strip()}"
    return [int(word) for word in answer.split()]


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _datagrams(way: Way, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    sink = way.socket(way.server, socket.SOCK_DGRAM, stack)
    sink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    sink.bind((str(way.address()), 0))
    source = way.socket(way.client, socket.SOCK_DGRAM, stack)
    source.connect(sink.getsockname()[:2])
    return source, sink


def _stream(way: Way, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    listener = way.socket(way.server, socket.SOCK_STREAM, stack)
    listener.bind((str(way.address()), 0))
    listener.listen()
    listener.settimeout(10.0)
    caller = way.socket(way.client, socket.SOCK_STREAM, stack)
    caller.settimeout(10.0)
    caller.connect(listener.getsockname()[:2])
    return caller, stack.enter_context(listener.accept()[0])


def _grown(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    grown = {name: after[name] - before.get(name, 0) for name in after}
    return "grown meanwhile: " + (
        ", ".join(f"{n} {by}" for n, by in sorted(grown.items()) if by) or "nothing"
    )
