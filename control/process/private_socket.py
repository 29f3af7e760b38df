"""A listening UNIX socket of root's alone, at a path that others may spoil.

The kernel keeps the inode of a bound socket for as long as the socket is open, so its number says for sure
whether what stands at the path is ours. A path is taken by rename: there is no moment without a socket on it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from control.process.keeper import MustRestart

MODE = 0o600
_WRITABLE_BY_OTHERS = 0o022


class PrivateSocket:
    """Mode 0600, in a directory in which nobody else may replace it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ours: tuple[int, int] | None = None
        """Device and inode of what was bound last."""

    def bind(self, backlog: int) -> socket.socket:
        """A new listener at the path, in place of whatever stood there. Raises OSError or MustRestart.

        A file, directory or link of somebody else's is moved aside to ``.NAME.foreign``, and the one that was
        there before it is lost; a socket or an empty file holds nothing and is replaced.
        """
        self._see_to_directory()
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before it has a name, which a chmod would follow: bind takes the mode from here.
            os.fchmod(made.fileno(), MODE)
            made.bind(str(fresh))
            made.listen(backlog)
            made.setblocking(False)
            self._move_aside()
            ours = os.lstat(fresh)
            fresh.rename(self.path)
        except BaseException:
            made.close()
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        self._ours = ours.st_dev, ours.st_ino
        return made

    def wrong(self) -> str:
        """What stands at the path instead, "" if it is what was bound last."""
        try:
            found = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return f"{self.path} was removed"
        if not stat.S_ISSOCK(found.st_mode):
            return f"{self.path} is no socket any more but {_kind(found.st_mode)}"
        if (found.st_dev, found.st_ino) != self._ours:
            return f"{self.path} is another process's socket"
        if stat.S_IMODE(found.st_mode) != MODE or found.st_uid != os.geteuid():
            return f"{self.path} has mode {stat.S_IMODE(found.st_mode):o} and owner {found.st_uid}"
        if _others_may_write(os.stat(self.path.parent)):
            return f"{self.path.parent} can be written by others than root"
        return ""

    def unlink(self) -> None:
        """If it is still ours: a successor may have taken the path already."""
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._ours:
                self.path.unlink()

    def _see_to_directory(self) -> None:
        directory = self.path.parent
        try:
            found = os.stat(directory)
        except FileNotFoundError:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        require_on_disk(directory)
        if _others_may_write(found):
            directory.chmod(stat.S_IMODE(found.st_mode) & ~_WRITABLE_BY_OTHERS)

    def _move_aside(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        empty = stat.S_ISREG(found.st_mode) and not found.st_size
        if not stat.S_ISSOCK(found.st_mode) and not empty:
            self.path.rename(self.path.with_name(f".{self.path.name}.foreign"))


def _others_may_write(directory: os.stat_result) -> bool:
    """And take away what is not theirs. /tmp and its like are everybody's on purpose, with the sticky bit."""
    return bool(directory.st_mode & _WRITABLE_BY_OTHERS) and not directory.st_mode & stat.S_ISVTX


def require_on_disk(directory: Path) -> None:
    """Raises MustRestart for a directory that was removed under its mount: nothing can be made in it."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(directory).st_nlink == 0:
            raise MustRestart(
                f"{directory} was removed on the node, and this process's mount of it is of no more use",
                remedy="nothing to do: terwayd ends, and the kubelet starts it with the directory made anew",
            )


def _kind(mode: int) -> str:
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link"}
    return kinds.get(stat.S_IFMT(mode), "a device or a FIFO")
