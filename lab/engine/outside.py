"""The world beyond the VPC: a host that echoes TCP and UDP on port 7 (RFC 862); its kernel answers pings."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Callable

from datapath import namespace

ECHO_PORT = 7
_LARGEST = 65535


def serve_echo(netns: int) -> None:
    """Listen in ``netns`` on every address, IPv4 and IPv6; daemon threads serve until the process ends."""
    with namespace.entered(netns):
        stream = _bound(socket.SOCK_STREAM)
        stream.listen(128)
        datagram = _bound(socket.SOCK_DGRAM)
    _start(lambda: _accept(stream), "outside-tcp")
    _start(lambda: _answer_datagrams(datagram), "outside-udp")


def _bound(kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", ECHO_PORT))
    return sock


def _start(target: Callable[[], None], name: str) -> None:
    threading.Thread(target=target, name=name, daemon=True).start()


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        _start(functools.partial(_echo, connection), "outside-echo")


def _echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(_LARGEST):
            connection.sendall(data)


def _answer_datagrams(sock: socket.socket) -> None:
    """IPV6_RECVPKTINFO is not needed: the host has one address per family, and so one source."""
    while True:
        with contextlib.suppress(OSError):
            data, peer = sock.recvfrom(_LARGEST)
            sock.sendto(data, peer)
