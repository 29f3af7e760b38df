"""Sockets of nfnetlink, bound for life to the network namespace that they were opened in."""

from __future__ import annotations

import errno
import socket

from datapath import namespace
from datapath.netlink.socket import Socket

NETLINK_NETFILTER = 12


class NetfilterSocket(Socket):
    """The exchange of messages is that of rtnetlink; the other end is netfilter."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._sequence = 0


def open_netfilter(netns: int | None) -> NetfilterSocket | None:
    """``netns`` as for ``Socket``; None on a kernel without nfnetlink."""
    opened = open_raw(netns, groups=0)
    return None if opened is None else NetfilterSocket(opened)


def open_raw(netns: int | None, *, groups: int) -> socket.socket | None:
    """The bare socket, subscribed to the legacy group mask ``groups``."""
    if netns is None:
        return _bound(groups)
    with namespace.entered(netns):
        return _bound(groups)


def _bound(groups: int) -> socket.socket | None:
    try:
        raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    except OSError as exc:
        if exc.errno == errno.EPROTONOSUPPORT:
            return None
        raise
    try:
        raw.bind((0, groups))
    except BaseException:
        raw.close()
        raise
    return raw
