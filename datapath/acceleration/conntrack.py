"""The kernel's conntrack, made to be there: on Debian it is a module that nothing may have loaded yet.

No modprobe is needed, nor a file of the host's: a message to conntrack's netlink makes the kernel load it, as
``conntrack -L`` does. Source: nfnetlink_rcv_msg() asks for the module ``nfnetlink-subsys-1``.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8
_COUNT = 5
"""IPCTNL_MSG_CT_GET_STATS."""
_REQUEST_ACK = 0x1 | 0x4


def load() -> None:
    """Best effort: who loads a program that asks conntrack finds out. Never raises."""
    message = struct.pack("=IHHIIBBH", 20, _SUBSYSTEM | _COUNT, _REQUEST_ACK, 1, 0, socket.AF_UNSPEC, 0, 0)
    with suppress(OSError):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as made:
            made.settimeout(5.0)
            made.send(message)
            made.recv(4096)
