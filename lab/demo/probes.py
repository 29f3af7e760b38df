"""Tries one cell: every step must do what it should, a lost one may be tried again once."""

from __future__ import annotations

from collections.abc import Callable

from lab.demo.echo import PORT
from lab.demo.exchange import datagrams, icmp_echo, pings, stream, target_of, tcp_echo, udp_echo
from lab.demo.matrix import Cell, Protocol
from lab.demo.unusual import UNUSUAL

TRIES = 2
"""The first packet may wait for a neighbour."""
SMALL = 56
STREAM = 65536


def sizes(protocol: Protocol, family: int, mtu: int) -> dict[str, int]:
    """Bytes above the transport header, by step: small and the most that one packet holds; TCP also many."""
    headers = (20 if family == 4 else 40) + (20 if protocol is Protocol.TCP else 8)
    if protocol is Protocol.TCP:
        return {"small": 1, "mtu": mtu - headers, "stream": STREAM}
    return {"small": SMALL, "mtu": mtu - headers}


def least_packets(cell: Cell) -> int:
    """How many must go each way: of a TCP connection those that begin it, carry data and end it."""
    if not cell.is_common:
        return 1
    return 9 if cell.protocol is Protocol.TCP else 2


def probe(cell: Cell, mtu: int) -> list[tuple[str, str]]:
    """The steps that failed, each with why; empty if all is good."""
    if cell.is_common:
        named = sizes(cell.protocol, cell.family, mtu)
        tried = [(name, _tried(_COMMON[cell.protocol], cell, size)) for name, size in named.items()]
    else:
        steps = UNUSUAL[cell.kind, cell.protocol]
        tried = [(name, _tried(take, cell, mtu)) for name, take in steps.items()]
    return [(name, error) for name, error in tried if error]


def _tried(take: Callable[[Cell, int], None], cell: Cell, number: int) -> str:
    error = ""
    for _ in range(TRIES):
        try:
            take(cell, number)
            return ""
        except OSError as exc:
            error = str(exc) or type(exc).__name__
    return error


def _tcp(cell: Cell, size: int) -> None:
    with stream(cell) as made:
        tcp_echo(made, (str(target_of(cell)), PORT), size)


def _udp(cell: Cell, size: int) -> None:
    with datagrams(cell, whole=True) as made:
        udp_echo(made, size)


def _icmp(cell: Cell, size: int) -> None:
    with pings(cell, whole=True) as made:
        icmp_echo(made, target_of(cell), size)


_COMMON = {Protocol.TCP: _tcp, Protocol.UDP: _udp, Protocol.ICMP: _icmp}
