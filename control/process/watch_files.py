"""The one door to inotify: an event loop is woken when a file is made, altered, renamed or removed.

A file is watched through its directory, and the directory through its own, so that what does not exist yet
can be followed and a removed directory that comes back is seen. Events are hints to look, never facts:

* A full queue (``max_queued_events``) loses events; the kernel says so, and that counts as a change.
* A watch belongs to an inode. It dies with a directory that is removed, and stays with one that is renamed or
  over which something is mounted; ``follow`` asks for the paths anew and takes what stands there by then.
* What is changed below another mount of the same file system is seen (one inode), a change in an overlay's
  lower layer or on a network's server is not.
* A user may have 128 instances (``max_user_instances``), and root has many users: without one there is no
  watch, and ``why`` says so.

So whoever uses it looks in rounds as well.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_ATTRIB, _CLOSE_WRITE = 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_UNMOUNT, _Q_OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR = 0x1000000
_WANTED = (
    _ATTRIB
    | _CLOSE_WRITE
    | _MOVED_FROM
    | _MOVED_TO
    | _CREATE
    | _DELETE
    | _DELETE_SELF
    | _MOVE_SELF
    | _ONLYDIR
)
_ALWAYS = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _Q_OVERFLOW | _IGNORED
_EVENT = struct.Struct("iIII")
_ROOM = 65536

ANY = "*"
"""As a file's name: whatever is in the directory."""


class FileWatch:
    """``fileno`` is readable when ``read`` has something to say; -1 without inotify, and ``why`` says why."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.why = "" if self._fd >= 0 else f"no inotify: {os.strerror(ctypes.get_errno())}"
        self._names: dict[int, set[str]] = {}
        """By watch: the names in its directory that matter."""
        self._paths: tuple[Path, ...] = ()

    def fileno(self) -> int:
        return self._fd

    def follow(self, paths: Iterable[Path]) -> None:
        """From now on these, and no others. What stands at the paths now is watched, whatever did before."""
        if self._fd < 0:
            return
        self._paths = tuple(paths)
        names: dict[int, set[str]] = {}
        for path in self._paths:
            for directory, name in ((path.parent, path.name), (path.parent.parent, path.parent.name)):
                number = self._add(directory)
                if number >= 0:
                    names.setdefault(number, set()).add(name)
        for number in self._names.keys() - names.keys():
            self._libc.inotify_rm_watch(self._fd, number)
        self._names = names

    def read(self) -> bool:
        """Whether one of the paths may be another than before. Takes all that the kernel has to say."""
        changed = False
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _ROOM)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                changed = changed or self._matters(number, mask, os.fsdecode(name))
        return changed

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        """Who forgets it without closing it keeps none of the user's few instances."""
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _matters(self, number: int, mask: int, name: str) -> bool:
        if mask & _Q_OVERFLOW:
            return True
        wanted = self._names.get(number, set())
        return bool(wanted) and (bool(mask & _ALWAYS) or name in wanted or ANY in wanted)

    def _add(self, directory: Path) -> int:
        """The watch's number, -1 if there is no such directory or no room for another watch."""
        number: int = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _WANTED)
        return number
