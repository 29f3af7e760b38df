"""Sockets in places. One process has them everywhere: a socket stays in the namespace it was opened in."""

from __future__ import annotations

import socket

from datapath import namespace
from lab.demo.matrix import Place

# linux/in.h and linux/in6.h, where Python's socket module has no names.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
IP_MTU, IPV6_MTU = 14, 24
PMTUDISC_DONT, PMTUDISC_DO = 0, 2


def opened(place: Place, version: int, kind: int, protocol: int = 0) -> socket.socket:
    with namespace.entered(place.netns):
        return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind, protocol)


def may_fragment(made: socket.socket, allowed: bool) -> None:
    """Not allowed: what is sent must be whole, and so must arrive whole."""
    value = PMTUDISC_DONT if allowed else PMTUDISC_DO
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, value)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, value)


def path_mtu(made: socket.socket) -> int:
    """What a connected socket knows of the way to its peer, in bytes of IP."""
    if made.family == socket.AF_INET:
        return made.getsockopt(socket.IPPROTO_IP, IP_MTU)
    return made.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
