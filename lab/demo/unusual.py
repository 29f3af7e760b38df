"""What a fast path leaves to the stack or has to understand: fragments, options, small hops, ICMP errors."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping

from lab.demo import narrow
from lab.demo.echo import PORT
from lab.demo.exchange import (
    await_icmp,
    datagrams,
    icmp_echo,
    ping,
    pings,
    stream,
    target_of,
    tcp_echo,
    udp_echo,
)
from lab.demo.matrix import Cell, Kind, Protocol
from lab.demo.sockets import path_mtu

CLOSED_PORT = 7770
"""Nobody listens there, in any place."""
SMALL = 56
STREAM = 65536
ONE_SEGMENT = 1000
IPV6_HOPOPTS, IPV6_DSTOPTS = 54, 59
"""linux/in6.h."""
_NO_OPERATION = bytes((1, 1, 1, 1))
_RECORD_ROUTE = bytes((7, 15, 4)) + bytes(12) + b"\0"
"""RFC 791: type, length, pointer, room for three addresses; padded to words."""
_TIMESTAMP = bytes((68, 12, 5, 0)) + bytes(8)
"""RFC 791: type, length, pointer, timestamps only; room for two."""
_PADDING = bytes((0, 0, 1, 4, 0, 0, 0, 0))
"""RFC 8200: a header of 8 bytes that holds a PadN of 4; the kernel fills in what follows it."""
_IPV4_OPTION = {Protocol.TCP: _NO_OPERATION, Protocol.UDP: _TIMESTAMP, Protocol.ICMP: _RECORD_ROUTE}
_IPV6_HEADER = {Protocol.TCP: IPV6_DSTOPTS, Protocol.UDP: IPV6_DSTOPTS, Protocol.ICMP: IPV6_HOPOPTS}
_TIME_EXCEEDED = {4: 11, 6: 3}

Take = Callable[[Cell, int], None]
"""Raises OSError, TimeoutError among them, unless all goes as it should. The number is the MTU."""


def _two_fragments_udp(cell: Cell, mtu: int) -> None:
    with datagrams(cell, whole=False) as made:
        udp_echo(made, mtu + 100)


def _three_fragments_udp(cell: Cell, mtu: int) -> None:
    with datagrams(cell, whole=False) as made:
        udp_echo(made, 2 * mtu + 100)


def _two_fragments_icmp(cell: Cell, mtu: int) -> None:
    with pings(cell, whole=False) as made:
        icmp_echo(made, target_of(cell), mtu + 100)


def _three_fragments_icmp(cell: Cell, mtu: int) -> None:
    with pings(cell, whole=False) as made:
        icmp_echo(made, target_of(cell), 2 * mtu + 100)


def _with_options(made: socket.socket, protocol: Protocol) -> None:
    """IPv4: no-operation, timestamp, record route. IPv6: destination or hop-by-hop options."""
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _IPV4_OPTION[protocol])
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_HEADER[protocol], _PADDING)


def _options_tcp(cell: Cell, _mtu: int) -> None:
    """IPv6: one segment. Of GSO frames with an extension header Linux 6.18 calls some too big as it forwards
    them, by any plain router: it seems to read TCP's header length 8 bytes too early.
    """
    with stream(cell) as made:
        _with_options(made, Protocol.TCP)
        tcp_echo(made, (str(target_of(cell)), PORT), STREAM if cell.family == 4 else ONE_SEGMENT)


def _options_udp(cell: Cell, _mtu: int) -> None:
    with datagrams(cell, whole=True) as made:
        _with_options(made, Protocol.UDP)
        udp_echo(made, SMALL)


def _options_icmp(cell: Cell, _mtu: int) -> None:
    """The reply carries the record of IPv4's request: somebody on the way must have written into it."""
    with pings(cell, whole=True) as made:
        _with_options(made, Protocol.ICMP)
        reply = icmp_echo(made, target_of(cell), SMALL)
    if cell.family == 4 and (reply[20:22] != _RECORD_ROUTE[:2] or reply[22] == _RECORD_ROUTE[2]):
        raise OSError("the route was not recorded")


def _small_hop_udp(cell: Cell, mtu: int) -> None:
    """A datagram of the whole MTU must bring the news of a smaller one, and one of that size gets through."""
    narrow.forget(cell)
    headers = 28 if cell.family == 4 else 48
    try:
        with datagrams(cell, whole=True, port=narrow.PORT) as made:
            made.send(bytes(mtu - headers))
            _expect(errno.EMSGSIZE, made)
            if path_mtu(made) != narrow.MTU:
                raise OSError(f"the path's MTU became {path_mtu(made)} and not {narrow.MTU}")
            udp_echo(made, narrow.MTU - headers)
    finally:
        narrow.forget(cell)


def _small_hop_tcp(cell: Cell, mtu: int) -> None:
    """The far end claims room for the whole MTU, so segments meet the small hop and must be sent again."""
    narrow.forget(cell)
    try:
        with stream(cell) as made:
            tcp_echo(made, (str(target_of(cell)), narrow.PORT), STREAM + mtu)
            if path_mtu(made) != narrow.MTU:
                raise OSError(f"the path's MTU became {path_mtu(made)} and not {narrow.MTU}")
    finally:
        narrow.forget(cell)


def _small_segments(cell: Cell, _mtu: int) -> None:
    """The far end has a smaller MTU and says so, as TCP does."""
    with stream(cell) as made:
        tcp_echo(made, (str(target_of(cell)), narrow.SEGMENT_PORT), STREAM)


def _closed_port(cell: Cell, _mtu: int) -> None:
    with datagrams(cell, whole=True, port=CLOSED_PORT) as made:
        made.send(bytes(SMALL))
        _expect(errno.ECONNREFUSED, made)


def _expect(number: int, made: socket.socket) -> None:
    """The next thing that a socket hears is this error."""
    try:
        heard = made.recv(65536)
    except TimeoutError:
        raise TimeoutError(f"no ICMP error came (awaited: {errno.errorcode[number]})") from None
    except OSError as exc:
        if exc.errno == number:
            return
        raise
    raise OSError(f"{len(heard)} bytes came back and no ICMP error")


def _hop_limit(cell: Cell, _mtu: int) -> None:
    """The first router must say that the hop limit ended there, and quote the request."""
    with pings(cell, whole=True) as made:
        if cell.family == 4:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
        identity = ping(made, target_of(cell), bytes(SMALL))
        quoted = 8 + (20 if cell.family == 4 else 40) + 4

        def is_ours(message: bytes) -> bool:
            return message[0] == _TIME_EXCEEDED[cell.family] and message[quoted : quoted + 4] == identity

        await_icmp(made, is_ours)


UNUSUAL: Mapping[tuple[Kind, Protocol], Mapping[str, Take]] = {
    (Kind.FRAGMENTS, Protocol.UDP): {"two": _two_fragments_udp, "three": _three_fragments_udp},
    (Kind.FRAGMENTS, Protocol.ICMP): {"two": _two_fragments_icmp, "three": _three_fragments_icmp},
    (Kind.OPTIONS, Protocol.TCP): {"options": _options_tcp},
    (Kind.OPTIONS, Protocol.UDP): {"options": _options_udp},
    (Kind.OPTIONS, Protocol.ICMP): {"options": _options_icmp},
    (Kind.PMTU, Protocol.TCP): {"small-hop": _small_hop_tcp, "small-segments": _small_segments},
    (Kind.PMTU, Protocol.UDP): {"small-hop": _small_hop_udp},
    (Kind.ICMP_ERROR, Protocol.UDP): {"closed-port": _closed_port},
    (Kind.ICMP_ERROR, Protocol.ICMP): {"hop-limit": _hop_limit},
}
"""Steps by name."""
