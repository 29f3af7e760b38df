"""Questions and answers over every path of a scene, for as long as it is meddled with.

A flow asks some twenty times a second by a datagram, from one socket that lasts or from a new one each time:
of each path there are both, so that a connection that goes on is seen and one that begins. Who is asked sends
the datagram back, so that an answer has gone both ways. An outage is the time from the first question without
an answer to the next that has one, by when they were sent: an answer that is late on a busy machine is none.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from datapath import namespace
from lab.demo.echo import PORT, Service, echo_servers
from lab.demo.matrix import Place, Where
from lab.sandbox import LabPod
from perf.drift.scene import Scene

PERIOD = 0.05
PATIENCE = 4.0
"""Seconds for which an answer is waited for."""
SAME_NODE, OTHER_NODE, HOST, STACK = "same node", "other node", "from host", "by stack"
_NUMBER = struct.Struct("=Q")


@dataclass(frozen=True, slots=True)
class Path:
    """Who asks whom: a namespace, and an address of an echo server. Names of ``SAME_NODE`` and so on."""

    name: str
    version: int
    client: int
    server: IPv4Address | IPv6Address

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


@dataclass(slots=True)
class Flow:
    """``sent``: when each question was; ``answered``: which of them. One for old and one for new sockets."""

    path: Path
    lasting: bool
    sent: list[float] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.path}{'' if self.lasting else ', new'}"


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one flow in a time: the longest outage in seconds, and how many of how many questions went."""

    outage: float
    lost: int
    asked: int


class Traffic:
    """Runs from construction until ``close``. The far pod must be ``answering``."""

    def __init__(self, scene: Scene) -> None:
        self._stack = ExitStack()
        self._poll = select.epoll()
        self._waiting: dict[int, tuple[socket.socket, Flow, float]] = {}
        self._lasting: dict[int, socket.socket] = {}
        self._end = threading.Event()
        paths = list(_paths(scene, self._stack))
        self.flows = [Flow(path, lasting) for path in paths for lasting in (True, False)]
        self._thread = threading.Thread(target=self._run, daemon=True, name="traffic")
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        for made in [*self._lasting.values(), *(one[0] for one in self._waiting.values())]:
            made.close()
        self._poll.close()
        self._stack.close()

    def losses(self, begin: float, end: float) -> Mapping[str, Loss]:
        """By flow, of what was asked in this time by the monotonic clock. Wait ``PATIENCE`` before."""
        return {str(flow): loss(flow, begin, end) for flow in self.flows}

    def answers_since(self, moment: float) -> Mapping[str, bool]:
        """By flow: whether something that was asked since then was answered."""
        return {str(flow): _answered_since(flow, moment) for flow in self.flows}

    def _run(self) -> None:
        pause = PERIOD / len(self.flows)
        due, turn = time.monotonic(), 0
        while not self._end.is_set():
            self._ask(self.flows[turn])
            turn = (turn + 1) % len(self.flows)
            due = max(due + pause, time.monotonic() - PERIOD)
            while True:
                self._read(max(0.0, due - time.monotonic()))
                if time.monotonic() >= due:
                    break
            if turn == 0:
                self._forget()

    def _ask(self, flow: Flow) -> None:
        number = len(flow.sent)
        flow.sent.append(time.monotonic())
        try:
            made = self._socket(flow)
            made.send(_NUMBER.pack(number))
        except OSError:  # it is lost, and why is of no matter
            return

    def _socket(self, flow: Flow) -> socket.socket:
        key = id(flow)
        if flow.lasting and key in self._lasting:
            return self._lasting[key]
        family = socket.AF_INET if flow.path.version == 4 else socket.AF_INET6
        with namespace.entered(flow.path.client):
            made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            made.connect((str(flow.path.server), PORT))
        except OSError:
            made.close()
            raise
        self._poll.register(made.fileno(), select.EPOLLIN)
        if flow.lasting:
            self._lasting[key] = made
        self._waiting[made.fileno()] = made, flow, time.monotonic()
        return made

    def _read(self, seconds: float) -> None:
        for fd, _ in self._poll.poll(seconds):
            made, flow, _began = self._waiting[fd]
            with contextlib.suppress(OSError):  # told unreachable: the question stays without an answer
                flow.answered.add(_NUMBER.unpack(made.recv(64))[0])
                if not flow.lasting:
                    self._drop(fd)

    def _forget(self) -> None:
        late = time.monotonic() - PATIENCE
        for fd, (_, flow, began) in list(self._waiting.items()):
            if not flow.lasting and began < late:
                self._drop(fd)

    def _drop(self, fd: int) -> None:
        made, _, _ = self._waiting.pop(fd)
        self._poll.unregister(fd)
        made.close()


@contextlib.contextmanager
def answering(pods: Sequence[LabPod]) -> Iterator[dict[str, int]]:
    """Echo servers in the pods; the namespace of each by its key, open until the end."""
    with ExitStack() as stack:
        netns = {pod.key: pod.netns_fd() for pod in pods}
        for fd in netns.values():
            stack.callback(os.close, fd)
        places = [Place(p.key, Where.POD, p.node.name, netns[p.key], p.addresses) for p in pods]
        stack.enter_context(echo_servers([Service(place) for place in places]))
        yield netns


def _paths(scene: Scene, stack: ExitStack) -> Iterator[Path]:
    """Paths, with servers behind those that end in the scene until ``stack`` ends."""
    netns = stack.enter_context(answering(scene.pods))
    ends = (
        (SAME_NODE, netns[scene.two.key], scene.one),
        (OTHER_NODE, netns[scene.one.key], scene.far),
        (HOST, scene.netns, scene.one),
        (STACK, netns[scene.routed.key], scene.far),
    )
    for name, client, server in ends:
        for address in server.addresses:
            yield Path(name, address.version, client, address)


def loss(flow: Flow, begin: float, end: float) -> Loss:
    """Of what was asked in this time by the monotonic clock."""
    asked = [(number, at) for number, at in enumerate(list(flow.sent)) if begin <= at < end]
    longest, since = 0.0, None
    for number, at in asked:
        if number in flow.answered:
            if since is not None:
                longest = max(longest, at - since)
            since = None
        elif since is None:
            since = at
    if since is not None:
        longest = max(longest, end - since)
    return Loss(longest, sum(number not in flow.answered for number, _ in asked), len(asked))


def _answered_since(flow: Flow, moment: float) -> bool:
    numbers = [number for number, at in enumerate(list(flow.sent)) if at >= moment]
    return any(number in flow.answered for number in numbers)


def silent(answers: Mapping[str, bool]) -> Sequence[str]:
    return [name for name, answered in answers.items() if not answered]
