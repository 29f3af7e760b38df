"""UDP and TCP servers that echo, in every place at once and all served by one thread."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lab.demo.matrix import Place
from lab.demo.sockets import may_fragment, opened

PORT = 7777
SEND_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """Where to listen. ``max_segment`` is what TCP there asks its peers to keep to, None for the link's."""

    place: Place
    port: int = PORT
    max_segment: int | None = None


class EchoServers:
    def __init__(self, services: Sequence[Service]) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._listeners: set[int] = set()
        for service in services:
            for version in sorted({a.version for a in service.place.addresses}):
                self._add(_udp(service, version))
                self._add(_tcp(service, version), listens=True)
        self._wake, self._stop = os.pipe()
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="echo")
        self._thread.start()

    def close(self) -> None:
        os.write(self._stop, b"x")
        self._thread.join()
        for made in self._sockets.values():
            made.close()
        self._poll.close()
        os.close(self._wake)
        os.close(self._stop)

    def _add(self, made: socket.socket, *, listens: bool = False) -> None:
        made.setblocking(False)
        self._sockets[made.fileno()] = made
        if listens:
            self._listeners.add(made.fileno())
        self._poll.register(made.fileno(), select.EPOLLIN)

    def _serve(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    return
                try:
                    self._one(fd)
                except OSError:
                    self._drop(fd)

    def _one(self, fd: int) -> None:
        made = self._sockets[fd]
        if fd in self._listeners:
            self._add(made.accept()[0])
        elif made.type == socket.SOCK_DGRAM:
            data, sender = made.recvfrom(65536)
            made.sendto(data, sender)
        else:
            data = made.recv(65536)
            if not data:
                self._drop(fd)
                return
            made.settimeout(SEND_TIMEOUT)
            made.sendall(data)
            made.setblocking(False)

    def _drop(self, fd: int) -> None:
        if fd in self._listeners or self._sockets[fd].type == socket.SOCK_DGRAM:
            return
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()


def _udp(service: Service, version: int) -> socket.socket:
    made = opened(service.place, version, socket.SOCK_DGRAM)
    may_fragment(made, True)
    return _bound(made, service.port)


def _tcp(service: Service, version: int) -> socket.socket:
    made = opened(service.place, version, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if service.max_segment is not None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, service.max_segment)
    _bound(made, service.port).listen(64)
    return made


def _bound(made: socket.socket, port: int) -> socket.socket:
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("::" if made.family == socket.AF_INET6 else "0.0.0.0", port))
    return made


@contextmanager
def echo_servers(services: Sequence[Service]) -> Iterator[None]:
    servers = EchoServers(services)
    try:
        yield
    finally:
        servers.close()
