"""One exchange over one path: what was sent must come back, bit for bit, or OSError says what came."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable

from lab.demo.echo import PORT
from lab.demo.matrix import Address, Cell
from lab.demo.sockets import may_fragment, opened

TIMEOUT = 2.0
"""Seconds for one answer."""
_CHUNK = 16384
_ECHO = {4: (8, 0), 6: (128, 129)}
"""ICMP types of request and reply."""


def target_of(cell: Cell) -> Address:
    target = cell.target.address(cell.family)
    assert target is not None
    return target


def stream(cell: Cell) -> socket.socket:
    """An unconnected TCP socket of the cell's source."""
    made = opened(cell.source, cell.family, socket.SOCK_STREAM)
    made.settimeout(TIMEOUT)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def datagrams(cell: Cell, *, whole: bool, port: int = PORT) -> socket.socket:
    """A UDP socket of the source, connected. ``whole`` forbids fragments."""
    made = opened(cell.source, cell.family, socket.SOCK_DGRAM)
    may_fragment(made, not whole)
    made.settimeout(TIMEOUT)
    made.connect((str(target_of(cell)), port))
    return made


def pings(cell: Cell, *, whole: bool) -> socket.socket:
    """A raw ICMP socket of the source, not connected: errors come from others than the target."""
    protocol = socket.IPPROTO_ICMP if cell.family == 4 else socket.IPPROTO_ICMPV6
    made = opened(cell.source, cell.family, socket.SOCK_RAW, protocol)
    may_fragment(made, not whole)
    return made


def tcp_echo(made: socket.socket, address: tuple[str, int], size: int) -> None:
    """Connect, send, read all of it back, close both ways: afterwards nothing of it is under way."""
    payload, got = os.urandom(size), bytearray()
    made.connect(address)
    sent = 0
    while len(got) < size:
        if sent < size:
            sent += made.send(payload[sent : sent + _CHUNK])
        chunk = made.recv(65536)
        if not chunk:
            raise ConnectionError("closed before all had come back")
        got += chunk
    if bytes(got) != payload:
        raise OSError("another stream came back")
    made.shutdown(socket.SHUT_WR)
    if made.recv(1):
        raise OSError("more came back than was sent")


def udp_echo(made: socket.socket, size: int) -> None:
    payload = os.urandom(size)
    made.send(payload)
    if made.recv(65536) != payload:
        raise OSError("another datagram came back")


def icmp_echo(made: socket.socket, target: Address, size: int) -> bytes:
    """The reply as the socket gave it: with its header if it is IPv4."""
    payload = os.urandom(size)
    reply = _ECHO[target.version][1]
    identity = ping(made, target, payload)

    def is_reply(message: bytes) -> bool:
        return message[0] == reply and message[4:] == identity + payload

    return await_icmp(made, is_reply)


def ping(made: socket.socket, target: Address, payload: bytes) -> bytes:
    """Send one echo request; its identifier and sequence number, 4 bytes."""
    identity = os.urandom(2) + b"\0\1"
    request = _ECHO[target.version][0]
    checksum = _checksum(bytes((request, 0, 0, 0)) + identity + payload) if target.version == 4 else 0
    made.sendto(struct.pack("!BBH", request, 0, checksum) + identity + payload, (str(target), 0))
    return identity


def await_icmp(made: socket.socket, wanted: Callable[[bytes], bool]) -> bytes:
    """Read until a message, without its IPv4 header, is wanted. Raises TimeoutError."""
    deadline = time.monotonic() + TIMEOUT
    while (left := deadline - time.monotonic()) > 0:
        made.settimeout(left)
        data = made.recv(65536)
        at = (data[0] & 15) * 4 if made.family == socket.AF_INET else 0
        if wanted(data[at:]):
            return data
    raise TimeoutError("timed out")


def _checksum(data: bytes) -> int:
    """RFC 1071, for IPv4's ICMP; the kernel computes IPv6's."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
