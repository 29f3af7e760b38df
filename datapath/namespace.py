"""The one door to network namespaces: open, make, compare, and enter for the length of a ``with``.

A namespace belongs to a thread, not to a process: ``entered`` moves the calling thread only, so no ``await``
and no hand-over to another thread may happen inside it. A socket keeps the namespace it was opened in, which
is how one process talks to many: enter, open, leave, and use the socket from anywhere.
/proc/sys/net shows the namespace of the thread that opens a file in it; /sys does not follow.

Descriptors are close-on-exec and owned by the caller.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from datapath.errors import KernelError

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """What makes two descriptors the same namespace."""

    device: int
    inode: int


def open_path(path: str) -> int:
    """A descriptor of the namespace at ``path``, such as /run/netns/NAME or /proc/PID/ns/net.

    Raises KernelError if there is no such file, or if it is no network namespace.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise KernelError("open a network namespace", errno=exc.errno or 0, object=path) from exc
    if _is_network_namespace(fd):
        return fd
    os.close(fd)
    raise KernelError("open a network namespace", object=path, detail="the file is no network namespace")


def of_process(pid: int) -> int:
    """A descriptor of the namespace that the main thread of ``pid`` is in."""
    return open_path(f"/proc/{pid}/ns/net")


def own() -> int:
    """A descriptor of the namespace that the calling thread is in."""
    return open_path(_OWN)


def identity(fd: int) -> Identity:
    """Equal for two descriptors exactly if they are one namespace."""
    status = os.fstat(fd)
    return Identity(status.st_dev, status.st_ino)


def new() -> int:
    """A descriptor of a fresh network namespace, which lives as long as something holds it.

    Its loopback is down. The calling thread stays where it is: a short-lived thread does the unshare.
    """
    made: list[int] = []
    errors: list[int] = []

    def unshare() -> None:
        if _libc.unshare(_CLONE_NEWNET):
            errors.append(ctypes.get_errno())
        else:
            made.append(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=unshare, name="new-namespace")
    thread.start()
    thread.join()
    if made:
        return made[0]
    raise KernelError(
        "make a network namespace", errno=errors[0] if errors else 0, detail="is CAP_SYS_ADMIN held?"
    )


@contextmanager
def entered(fd: int) -> Iterator[None]:
    """Run the body with this thread, and only this one, in the namespace of ``fd``.

    Nests. Raises KernelError if ``fd`` cannot be entered. If the way back is refused, the thread would go on
    in the wrong place, so the process ends at once with a message instead.
    """
    home = own()
    try:
        _set(fd)
        try:
            yield
        finally:
            _return(home)
    finally:
        os.close(home)


def _set(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise KernelError("enter a network namespace", errno=ctypes.get_errno(), object=_name(fd))


def _return(home: int) -> None:
    if _libc.setns(home, _CLONE_NEWNET):
        reason = os.strerror(ctypes.get_errno())
        os.write(2, f"fatal: thread cannot return to its network namespace: {reason}\n".encode())
        os.abort()


def _name(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


def _is_network_namespace(fd: int) -> bool:
    return _name(fd).startswith("net:[") or _bound_namespace(fd)


def _bound_namespace(fd: int) -> bool:
    """A bind mount keeps its path as its name, so ask the kernel: NS_GET_NSTYPE of ioctl_ns(2)."""
    return bool(_libc.ioctl(fd, 0xB703) == _CLONE_NEWNET)
