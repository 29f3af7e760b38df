"""Sockets of netfilter's netlink, which a kernel may not have."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from datapath.netlink import socket as netlink
from datapath.netlink.socket import Socket

NETLINK_NETFILTER = 12


def open_netfilter(netns: int | None) -> Socket | None:
    """``netns`` as for ``Socket``; None on a kernel without nfnetlink."""
    with _absent_is_none():
        return Socket(netns, protocol=NETLINK_NETFILTER)


def open_raw(netns: int | None, *, groups: int) -> socket.socket | None:
    """The bare socket, subscribed to the legacy group mask ``groups``."""
    with _absent_is_none():
        return netlink.open_raw(netns, groups=groups, protocol=NETLINK_NETFILTER)


@contextmanager
def _absent_is_none() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno != errno.EPROTONOSUPPORT:
            raise
