"""The door to the system calls that make a node and that Python 3.11 lacks: the lab's only use of libc.

Numbers are those of linux/sched.h, linux/mount.h and linux/prctl.h, which never change. Every refusal is an
OSError that names the call and its object.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from enum import IntFlag

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class Namespace(IntFlag):
    MOUNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    PID = 0x20000000
    NETWORK = 0x40000000


class Mount(IntFlag):
    NONE = 0
    READ_ONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    BIND = 0x1000
    RECURSIVE = 0x4000
    PRIVATE = 0x40000
    SHARED = 0x100000


MNT_DETACH = 2


def _check(result: int, call: str, thing: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}", thing)


def unshare(what: Namespace) -> None:
    """New namespaces for this process; PID is for the next child only."""
    _check(_LIBC.unshare(int(what)), "unshare", str(what))


def join(fd: int, kind: Namespace) -> None:
    """setns(2). PID is for the next child only."""
    _check(_LIBC.setns(fd, int(kind)), "setns", str(kind))


def mount(source: str, target: str, kind: str, flags: Mount = Mount.NONE, options: str = "") -> None:
    result = _LIBC.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(int(flags)), options.encode()
    )
    _check(result, f"mount {kind or flags!r} {source}", target)


def unmount(target: str) -> None:
    """Detach ``target`` and all below it, busy or not (MNT_DETACH)."""
    _check(_LIBC.umount2(target.encode(), MNT_DETACH), "umount2", target)


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when the thread that forked it ends."""
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl", "PR_SET_PDEATHSIG")


def loopback_up() -> None:
    """Bring ``lo`` up in this thread's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
