"""Conversations by TCP and UDP, also where who listens is not who is called, and bulk."""

from __future__ import annotations

import hashlib
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass

from datapath import namespace
from tests.netns.datapath.world import Address
from tests.pace import patience

PATIENCE = patience(3.0)


@dataclass(frozen=True, slots=True)
class Place:
    """A socket's end: the namespace it is opened in, its address and port there (0: any)."""

    netns: int
    address: Address
    port: int = 0

    def family(self) -> socket.AddressFamily:
        return socket.AF_INET if self.address.version == 4 else socket.AF_INET6


def converse(client: int, called: Place, server: Place, *, kind: socket.SocketKind, size: int = 1024) -> str:
    """``client`` calls ``called``, ``server`` answers. Returns the caller's address as the server saw it.

    Both ways carry ``size`` bytes, three times. Raises OSError or TimeoutError if anything is lost.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_opened(server, kind))
        listener.bind((str(server.address), server.port))
        with namespace.entered(client):
            caller = stack.enter_context(socket.socket(called.family(), kind))
        for one in (listener, caller):
            one.settimeout(PATIENCE)
        if kind is socket.SOCK_STREAM:
            listener.listen()
            caller.connect((str(called.address), called.port))
            connection, origin = listener.accept()
            stack.enter_context(connection)
            connection.settimeout(PATIENCE)
        else:
            caller.connect((str(called.address), called.port))
            caller.send(b"hello")
            _, origin = listener.recvfrom(100)
            listener.connect(origin)
            connection = listener
        for _ in range(3):
            _one_way(caller, connection, size)
            _one_way(connection, caller, size)
        return str(origin[0])


def _opened(place: Place, kind: socket.SocketKind) -> socket.socket:
    with namespace.entered(place.netns):
        made = socket.socket(place.family(), kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _one_way(source: socket.socket, sink: socket.socket, size: int) -> None:
    data = bytes(range(256)) * (size // 256)
    source.sendall(data)
    received = b""
    while len(received) < len(data) and (piece := sink.recv(65536)):
        received += piece
    assert received == data


def transfer(client: int, server: int, address: Address, size: int = 24 << 20) -> None:
    """A TCP stream of ``size`` bytes from ``client`` to ``address`` in ``server``, compared by hash."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with namespace.entered(server):
        listener = socket.create_server((str(address), 0), family=family)
    with namespace.entered(client):
        caller = socket.socket(family, socket.SOCK_STREAM)
    block = bytes(range(256)) * 4096
    with listener, caller:
        caller.settimeout(patience(10))
        listener.settimeout(patience(10))
        caller.connect((str(address), listener.getsockname()[1]))
        connection, _ = listener.accept()
        connection.settimeout(patience(10))
        sender = threading.Thread(target=_send, args=(caller, block, size))
        sender.start()
        digest, left = hashlib.sha256(), size
        with connection:
            while left and (piece := connection.recv(1 << 18)):
                digest.update(piece)
                left -= len(piece)
        sender.join()
    assert left == 0
    assert digest.digest() == hashlib.sha256(block * (size // len(block))).digest()


def _send(caller: socket.socket, block: bytes, size: int) -> None:
    for _ in range(size // len(block)):
        caller.sendall(block)
    caller.shutdown(socket.SHUT_WR)
