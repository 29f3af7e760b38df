"""Many calls of a pod, from ports that are known afterwards, and connections that lie idle."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from datapath import namespace
from tests.netns.datapath.world import Address
from tests.netns.fastpath.conversation import PATIENCE, Place


def family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


@contextmanager
def serving(place: Place) -> Iterator[list[socket.socket]]:
    """A TCP server that accepts whatever comes; the connections, in the order in which they came.

    Those that the caller has closed are closed here and taken out.
    """
    with namespace.entered(place.netns):
        listener = socket.create_server(
            (str(place.address), place.port), family=family(place.address), backlog=4096
        )
    accepted: list[socket.socket] = []
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            ready, _, _ = select.select([listener, *accepted[-800:]], [], [], 0.05)
            for one in ready:
                if one is listener:
                    accepted.append(listener.accept()[0])
                else:
                    accepted.remove(one)
                    one.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield accepted
    finally:
        ended.set()
        thread.join()
        for one in (listener, *accepted):
            one.close()


def call(netns: int, address: Address, port: int, *, own: int = 0) -> socket.socket:
    """Connected by TCP, from the port ``own`` if it is not 0. Raises OSError, TimeoutError."""
    with namespace.entered(netns):
        made = socket.socket(family(address), socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(PATIENCE)
    try:
        if own:
            made.bind(("", own))
        made.connect((str(address), port))
    except OSError:
        made.close()
        raise
    return made


def calls(netns: int, address: Address, port: int, count: int) -> list[int]:
    """That many, one after the other; the ports they came from."""
    ports = []
    for _ in range(count):
        with call(netns, address, port) as one:
            ports.append(one.getsockname()[1])
    return ports


def reached(netns: int, address: Address, port: int, ports: list[int]) -> int:
    """How many connections from these ports came about."""
    made = 0
    for own in ports:
        with suppress(OSError), call(netns, address, port, own=own):
            made += 1
    return made


def speaks(server: socket.socket, client: socket.socket) -> bool:
    """Whether what the server says reaches the client."""
    try:
        server.sendall(b"first")
        return client.recv(16) == b"first"
    except OSError:
        return False


def flood(netns: int, addresses: list[Address], *, ports: int, times: int) -> None:
    """So many datagrams to each of the ports of each address: as many UDP flows of one pod."""
    with ExitStack() as stack:
        with namespace.entered(netns):
            sender = stack.enter_context(socket.socket(family(addresses[0]), socket.SOCK_DGRAM))
        for address in map(str, addresses):
            for port in range(1, ports + 1):
                for _ in range(times):
                    with suppress(BlockingIOError):
                        sender.sendto(b"x", (address, port))
