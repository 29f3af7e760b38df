"""The one door to /proc/sys. A name is a path below it: ``net/ipv4/conf/eth0/rp_filter``.

What is below ``net`` is that of the namespace the calling thread is in; see ``datapath.namespace.entered``.
Names use slashes, as a link's name may hold a dot.

A container that is not privileged has /proc/sys read-only. A bind mount of the host's /proc/sys/net elsewhere
can be written, and shows the namespace of the thread as well: ``net_at`` says where it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from datapath.errors import KernelError

ROOT = "/proc/sys/"
_NET = "net/"
_net = ""


def net_at(directory: str) -> None:
    """From now on names below ``net`` are those in ``directory``, for the whole process."""
    global _net
    _net = directory.rstrip("/") + "/"


def path(name: str) -> str:
    """Where the setting is, or the directory of some."""
    return _net + name[len(_NET) :] if _net and name.startswith(_NET) else ROOT + name


def read(name: str) -> str:
    """The value without its newline. Raises KernelError with ENOENT if there is no such setting."""
    try:
        with open(path(name)) as file:
            return file.read().strip()
    except OSError as exc:
        raise KernelError("read sysctl", errno=exc.errno or 0, object=name) from exc


def write(name: str, value: str) -> None:
    """Set, whatever it was. Cheaper than ``ensure`` where nothing can have been set yet."""
    try:
        # Not open(): no buffer, no codec, no stat; this runs once per setting and pod.
        file = os.open(path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)
    except OSError as exc:
        detail = (
            "it is mounted read-only: let the agent be privileged, or mount the host's /proc/sys/net "
            "elsewhere and name that by -sysctl-net"
            if exc.errno == errno.EROFS
            else ""
        )
        what = f"set sysctl to {value}"
        raise KernelError(what, errno=exc.errno or 0, object=name, detail=detail) from exc


def ensure(wanted: Mapping[str, str], *, absent_is_fine: bool = False) -> tuple[str, ...]:
    """Write what differs and name it. Some writes change many links, so nothing is written needlessly.

    ``absent_is_fine``: a link may go while its settings are looked at, or be too small for IPv6.
    """
    changed = []
    for name, value in wanted.items():
        try:
            if read(name) != value:
                write(name, value)
                changed.append(name)
        except KernelError as exc:
            if not absent_is_fine or exc.errno != errno.ENOENT:
                raise
    return tuple(changed)


def links(family: str) -> tuple[str, ...]:
    """Names below ``net/FAMILY/conf`` (``ipv4`` or ``ipv6``), without ``all`` and ``default``."""
    where = f"net/{family}/conf"
    try:
        names = os.listdir(path(where))
    except OSError as exc:
        raise KernelError("list sysctls", errno=exc.errno or 0, object=where) from exc
    return tuple(sorted(set(names) - {"all", "default"}))
