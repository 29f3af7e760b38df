"""Sends over one path and sees whether everything comes back, bit for bit.

All sockets belong to one process: a socket stays in the namespace it was opened in, so an echo server in
every place and a prober for every path need no process of their own. Three sizes each: small, the largest
that one packet holds, and one that must be fragmented (for TCP: several segments).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datapath import namespace
from lab.demo.matrix import Address, Cell, Place, Protocol

PORT = 7777
TIMEOUT = 2.0
"""Seconds for one answer. A lost probe is sent again once: the first packet may wait for a neighbour."""
TRIES = 2
FRAGMENTED = 4000
STREAM = 65536
IP_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_DO = 10, 0, 2
IPV6_MTU_DISCOVER = 23
_ECHO = {4: (8, 0), 6: (128, 129)}
"""ICMP types of request and reply."""


@dataclass(frozen=True, slots=True)
class Size:
    """``payload`` in bytes above the transport header; ``whole`` forbids fragments on the way."""

    name: str
    payload: int
    whole: bool


def sizes(protocol: Protocol, family: int, mtu: int) -> tuple[Size, ...]:
    if protocol is Protocol.TCP:
        return (
            Size("small", 1, False),
            Size("mtu", mtu - (40 if family == 4 else 60), False),
            Size("stream", STREAM, False),
        )
    headers = (20 if family == 4 else 40) + 8
    return (
        Size("small", 56, True),
        Size("mtu", mtu - headers, True),
        Size("fragmented", FRAGMENTED, False),
    )


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _opened(place: Place, version: int, kind: int, protocol: int = 0) -> socket.socket:
    with namespace.entered(place.netns):
        return socket.socket(_family(version), kind, protocol)


class EchoServers:
    """UDP and TCP echo on PORT in every place, all served by one thread."""

    def __init__(self, places: list[Place]) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._listeners: set[int] = set()
        for place in places:
            for version in sorted({a.version for a in place.addresses}):
                self._add(self._udp(place, version))
                self._add(self._tcp(place, version), listens=True)
        self._wake, self._stop = os.pipe()
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="echo")
        self._thread.start()

    def _udp(self, place: Place, version: int) -> socket.socket:
        made = _opened(place, version, socket.SOCK_DGRAM)
        _allow_fragments(made, version)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("::" if version == 6 else "0.0.0.0", PORT))
        return made

    def _tcp(self, place: Place, version: int) -> socket.socket:
        made = _opened(place, version, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("::" if version == 6 else "0.0.0.0", PORT))
        made.listen(64)
        return made

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
            made.setblocking(True)
            made.settimeout(TIMEOUT)
            made.sendall(data)
            made.setblocking(False)

    def _drop(self, fd: int) -> None:
        if fd in self._listeners or self._sockets[fd].type == socket.SOCK_DGRAM:
            return
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()

    def close(self) -> None:
        os.write(self._stop, b"x")
        self._thread.join()
        for made in self._sockets.values():
            made.close()
        self._poll.close()
        os.close(self._wake)
        os.close(self._stop)


@contextmanager
def echo_servers(places: list[Place]) -> Iterator[None]:
    servers = EchoServers(places)
    try:
        yield
    finally:
        servers.close()


def _allow_fragments(made: socket.socket, version: int) -> None:
    level, option = (
        (socket.IPPROTO_IP, IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
    )
    made.setsockopt(level, option, PMTUDISC_DONT)


def _forbid_fragments(made: socket.socket, version: int) -> None:
    level, option = (
        (socket.IPPROTO_IP, IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
    )
    made.setsockopt(level, option, PMTUDISC_DO)


def probe(cell: Cell, mtu: int) -> list[tuple[str, str]]:
    """The sizes that failed, each with why; empty if all came back."""
    target = cell.target.address(cell.family)
    assert target is not None
    failed = []
    for size in sizes(cell.protocol, cell.family, mtu):
        error = ""
        for _ in range(TRIES):
            try:
                _once(cell, target, size)
                error = ""
                break
            except OSError as exc:
                error = str(exc) or type(exc).__name__
        if error:
            failed.append((size.name, error))
    return failed


def _once(cell: Cell, target: Address, size: Size) -> None:
    """Raises OSError (TimeoutError among them) unless exactly what was sent comes back."""
    payload = os.urandom(size.payload)
    match cell.protocol:
        case Protocol.TCP:
            _tcp_once(cell, target, payload)
        case Protocol.UDP:
            _udp_once(cell, target, payload, whole=size.whole)
        case Protocol.ICMP:
            _icmp_once(cell, target, payload, whole=size.whole)


def _tcp_once(cell: Cell, target: Address, payload: bytes) -> None:
    with _opened(cell.source, target.version, socket.SOCK_STREAM) as made:
        made.settimeout(TIMEOUT)
        made.connect((str(target), PORT))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = bytearray()
        sent = 0
        while len(got) < len(payload):
            if sent < len(payload):
                sent += made.send(payload[sent : sent + 16384])
            chunk = made.recv(65536)
            if not chunk:
                raise ConnectionError("closed before all had come back")
            got += chunk
        if bytes(got) != payload:
            raise OSError("another stream came back")


def _udp_once(cell: Cell, target: Address, payload: bytes, *, whole: bool) -> None:
    with _opened(cell.source, target.version, socket.SOCK_DGRAM) as made:
        (_forbid_fragments if whole else _allow_fragments)(made, target.version)
        made.settimeout(TIMEOUT)
        made.connect((str(target), PORT))
        made.send(payload)
        if made.recv(65536) != payload:
            raise OSError("another datagram came back")


def _icmp_once(cell: Cell, target: Address, payload: bytes, *, whole: bool) -> None:
    version = target.version
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    request, reply = _ECHO[version]
    identifier = struct.unpack("!H", os.urandom(2))[0]
    with _opened(cell.source, version, socket.SOCK_RAW, protocol) as made:
        (_forbid_fragments if whole else _allow_fragments)(made, version)
        made.connect((str(target), 0))
        head = struct.pack("!BBHHH", request, 0, 0, identifier, 1)
        if version == 4:
            head = struct.pack("!BBHHH", request, 0, _checksum(head + payload), identifier, 1)
        made.send(head + payload)
        wanted = struct.pack("!HH", identifier, 1) + payload
        deadline = time.monotonic() + TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            made.settimeout(left)
            data = made.recv(65536)
            body = data[(data[0] & 15) * 4 :] if version == 4 else data
            if body[0] == reply and body[4:] == wanted:
                return
        raise TimeoutError("timed out")


def _checksum(data: bytes) -> int:
    """RFC 1071, for IPv4's ICMP; the kernel computes IPv6's."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
