"""A pod's network namespace, made as containerd makes it: a file below /run/netns, and no process.

Used by process 1 of a node, in the node's namespaces and from its only thread.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from lab.nodes import syscalls
from lab.nodes.syscalls import Mount, Namespace

DIRECTORY = "/run/netns"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a namespace")
    return f"{DIRECTORY}/{name}"


def add(name: str) -> int:
    """A new network namespace at /run/netns/``name`` with ``lo`` up; an open file of it.

    Raises FileExistsError.
    """
    path = _path(name)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        with _home():
            syscalls.unshare(Namespace.NETWORK)
            syscalls.loopback_up()
            syscalls.mount("/proc/self/ns/net", path, "", Mount.BIND)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        remove(name)
        raise


@contextlib.contextmanager
def _home() -> Iterator[None]:
    """Come back to the node's network namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            syscalls.join(home, Namespace.NETWORK)
        finally:
            os.close(home)


@contextlib.contextmanager
def entered(name: str | None) -> Iterator[None]:
    """Be in the sandbox's network namespace; stay where we are if ``name`` is None."""
    if name is None:
        yield
        return
    with _home():
        fd = open_(name)
        try:
            syscalls.join(fd, Namespace.NETWORK)
        finally:
            os.close(fd)
        yield


def open_(name: str) -> int:
    """Raises FileNotFoundError."""
    return os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)


def remove(name: str) -> bool:
    """Unmount and delete; the namespace ends with its last user. False if there was none."""
    path = _path(name)
    with contextlib.suppress(OSError):
        syscalls.unmount(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def names() -> list[str]:
    return sorted(os.listdir(DIRECTORY))
