"""iptables-legacy as it is in a network namespace: the one place that asks the kernel for its tables.

Only tables that are there already are read, as asking for another would make it, hooks and all.
Source: linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from datapath import namespace
from datapath.errors import KernelError
from datapath.firewall.blob import INFO, Blob, Header
from datapath.firewall.rule import Family

_SO_GET_INFO, _SO_GET_ENTRIES = 64, 65
_REQUEST_BYTES = 40
"""struct ipt_get_entries: a name of 32 bytes, the size of what follows, padding."""
_NAME_BYTES = 32
_TRIES = 10
"""A table that another writer has replaced since its size was asked is asked for again."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class _Protocol:
    domain: int
    level: int
    tables: Path


_PROTOCOLS = {
    Family.IP: _Protocol(socket.AF_INET, socket.IPPROTO_IP, Path("/proc/thread-self/net/ip_tables_names")),
    Family.IP6: _Protocol(
        socket.AF_INET6, socket.IPPROTO_IPV6, Path("/proc/thread-self/net/ip6_tables_names")
    ),
}


class XtablesReader:
    """``netns`` as for ``Socket``; a copy of it is kept. A kernel without xtables has nothing to read."""

    def __init__(self, netns: int | None = None) -> None:
        self._netns = None if netns is None else os.dup(netns)

    def close(self) -> None:
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None

    def tables(self) -> list[Blob]:
        """Raises KernelError."""
        found = []
        with nullcontext() if self._netns is None else namespace.entered(self._netns):
            for family, protocol in _PROTOCOLS.items():
                names = _names(protocol.tables)
                if names:
                    found.extend(_read(family, protocol, names))
        return found


def _names(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise KernelError(
            "list the tables of iptables-legacy", errno=exc.errno or 0, object=str(path)
        ) from exc


def _read(family: Family, protocol: _Protocol, names: list[str]) -> list[Blob]:
    found = []
    with socket.socket(protocol.domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as asked:
        for name in names:
            table = _table(asked, protocol.level, family, name)
            if table is not None:
                found.append(table)
    return found


def _table(asked: socket.socket, level: int, family: Family, name: str) -> Blob | None:
    """None if the table went away."""
    room_for_name = name.encode().ljust(_NAME_BYTES, b"\0")
    for _ in range(_TRIES):
        number, info = _getsockopt(asked, (level, _SO_GET_INFO), room_for_name, INFO.size)
        if not number:
            header = Header.decode(bytes(info))
            request = room_for_name + header.size.to_bytes(4, sys.byteorder)
            size = _REQUEST_BYTES + header.size
            number, entries = _getsockopt(asked, (level, _SO_GET_ENTRIES), request, size)
            if not number:
                return Blob(family, name, header=header, entries=bytes(entries[_REQUEST_BYTES:]))
        if number == errno.ENOENT:
            return None
        if number != errno.EAGAIN:
            raise KernelError("read a table of iptables-legacy", errno=number, object=f"{family} {name}")
    raise KernelError(
        "read a table of iptables-legacy",
        errno=errno.EAGAIN,
        object=f"{family} {name}",
        detail=f"replaced {_TRIES} times while it was read; try again",
    )


def _getsockopt(
    asked: socket.socket, option: tuple[int, int], request: bytes, size: int
) -> tuple[int, memoryview]:
    """Errno and answer. Python's own getsockopt passes no request and at most 1024 bytes."""
    room = ctypes.create_string_buffer(request, size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(asked.fileno(), *option, room, ctypes.byref(length)):
        return ctypes.get_errno(), memoryview(b"")
    return 0, memoryview(room)
