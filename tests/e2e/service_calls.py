"""Calls of a pod to Services, by TCP and UDP: some idle until their server speaks, some that never stop."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from datapath import namespace
from tests.e2e.witnesses import until
from tests.netns.fastpath.conversation import PATIENCE

MUCH = 1 << 20
_BLOCK = bytes(32768)
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass(frozen=True, slots=True)
class Connection:
    """``client`` has called a Service, ``server`` is its backend's end."""

    name: str
    client: socket.socket
    server: socket.socket

    def server_speaks(self) -> None:
        for source, sink in ((self.server, self.client), (self.client, self.server)):
            source.send(self.name.encode())
            assert sink.recv(len(_BLOCK)) == self.name.encode()


class Bulk:
    """Bytes both ways for as long as the block lasts."""

    def __init__(self, connection: Connection) -> None:
        self.name = connection.name
        self.came = [0, 0]
        self.ended = ""
        self._ends = (connection.client, connection.server)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._move)

    def __enter__(self) -> Bulk:
        for end in self._ends:
            end.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def goes_on(self) -> None:
        wanted = [came + MUCH for came in self.came]

        def there() -> bool:
            assert not self.ended, f"{self.name}: {self.ended}"
            return all(now > then for now, then in zip(self.came, wanted, strict=True))

        until(there, bool)

    def _move(self) -> None:
        while not self._enough.wait(0.002):
            for number, end in enumerate(self._ends):
                readable, writable, _ = select.select([end], [end], [], 0)
                try:
                    self.came[number] += len(end.recv(MUCH)) if readable else 0
                    if writable:
                        end.send(_BLOCK)
                except OSError as exc:
                    self.ended = str(exc)
                    return


@dataclass(frozen=True, slots=True)
class Calls:
    """Of one pod."""

    idle: list[Connection]
    bulk: list[Bulk]

    def unharmed(self) -> None:
        """Servers of idle ones speak first, then their clients; what never stops has not stopped."""
        for one in self.idle:
            one.server_speaks()
        for other in self.bulk:
            other.goes_on()


class Servers:
    """What listens behind Services: each has one backend, a network namespace and an address in it."""

    def __init__(self, backends: Mapping[str, tuple[int, str]], port: int, stack: ExitStack) -> None:
        self._backends, self._port = backends, port
        self._listeners = {}
        for name, (netns, address) in backends.items():
            listener = stack.enter_context(_opened(netns, address, "tcp"))
            listener.bind((address, port))
            listener.listen()
            self._listeners[name] = listener

    def answer(self, caller: socket.socket, service: str, kind: str) -> socket.socket:
        """The backend's end of what ``caller`` has called."""
        if kind == "tcp":
            made = self._listeners[service].accept()[0]
        else:
            netns, address = self._backends[service]
            made = _opened(netns, address, kind)
            made.bind((address, self._port))
            caller.send(b"hello")
            made.connect(made.recvfrom(16)[1])
        made.settimeout(PATIENCE)
        return made


@contextmanager
def calls(client: int, services: Mapping[str, str], port: int, servers: Servers) -> Iterator[Calls]:
    """From the namespace ``client`` to each address of ``services``, which have the names of ``servers``."""
    with ExitStack() as stack:
        made = Calls([], [])
        for name, vip in services.items():

            def called(kind: str, name: str = name, vip: str = vip) -> tuple[socket.socket, socket.socket]:
                caller = stack.enter_context(_opened(client, vip, kind))
                caller.connect((vip, port))
                return caller, stack.enter_context(servers.answer(caller, name, kind))

            made.idle.extend(Connection(f"{kind} {name}", *called(kind)) for kind in ("tcp", "udp"))
            bulk = Bulk(Connection(f"bulk {name}", *called("tcp")))
            made.bulk.append(stack.enter_context(bulk))
        yield made


def _opened(netns: int, address: str, kind: str) -> socket.socket:
    """Of the family of ``address``."""
    with namespace.entered(netns):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, _KINDS[kind])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(PATIENCE)
    return made
