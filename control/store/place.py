"""Where the ledger's file is: who may read it, whether it is still there, and what was set aside beside it.

A file is set aside under its own name and ``.REASON-N``: an operator may want to know what was in it. A few
are kept, as a disk that damages one may damage the next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

log = logging.getLogger(__name__)

KEPT_ASIDE = 4
"""Ledgers that are set aside at most; the oldest goes first."""
REASONS = ("damaged", "foreign", "newer", "older", "other-node")
"""What a ledger is set aside for. A name with another word is an operator's own copy, and left alone."""
BESIDE = ("", "-wal", "-shm", "-journal")
"""SQLite's files, by what follows the ledger's name."""
_DIRECTORY, _FILE = 0o700, 0o600

_LEAST_LOG = 32 + 24 + 4096
"""Bytes of a log with one page (sqlite.org/fileformat.html#walformat). It never shrinks while it is open."""

Mark = tuple[int, int]
"""Device and inode: another file of the same name has another."""


class Place:
    """``path`` is the ledger's file. ``lock`` makes the directory this process's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
        """Of the directory: a disk that cannot be written has no other lock."""
        self._log = self._beside("-wal")
        self.written = False
        """Something was written since ``remember``, so that the log has a page of it at least."""
        self._marks: dict[Path, Mark] = {}
        self._sizes: dict[Path, int] = {}

    def lock(self) -> None:
        """Of the directory that is there now. Raises OSError, BlockingIOError if another process has it."""
        self.path.parent.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
        taken = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._lock >= 0 and _mark(os.fstat(taken)) == _mark(os.fstat(self._lock)):
            os.close(taken)
            return
        try:
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(taken)
            raise
        self.unlock()
        self._lock = taken

    @property
    def locked(self) -> str:
        """A name of the directory that is locked, which is no other one's. Raises OSError if none is."""
        return "{:x}-{:x}".format(*_mark(os.fstat(self._lock)))

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def is_read_only(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(os.statvfs(self.path.parent).f_flag & os.ST_RDONLY)
        return False

    # Is it there?

    def remember(self) -> None:
        """What is open now is what is to be found here from now on."""
        self._marks, self._sizes, self.written = {}, {}, False
        for each in (self.path.parent, self.path, self._log):
            with contextlib.suppress(FileNotFoundError):
                found = each.stat()
                self._marks[each] = _mark(found)
                self._sizes[each] = found.st_size

    def missing(self) -> str:
        """What of ``remember`` is no longer there, or has been cut; "" if all is as it was."""
        for each, mark in self._marks.items():
            try:
                found = each.stat()
            except (FileNotFoundError, NotADirectoryError):
                return f"{each} is gone"
            if _mark(found) != mark:
                return f"{each} is another than terwayd has open"
            if each != self.path.parent:
                written = _LEAST_LOG if each == self._log and self.written else 0
                if found.st_size < max(self._sizes.get(each, 0), written):
                    return f"{each} was cut"
                self._sizes[each] = found.st_size
        return ""

    # Is it a ledger at all?

    def strange(self) -> str:
        """Why what is here cannot be a ledger; "" if it may be one, and if nothing or a directory is here.

        A link of an operator's to a ledger on another disk is followed. Raises OSError if that leads nowhere:
        the disk may not be mounted yet.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self.path.is_symlink():
                told = f"{self.path} leads to {os.readlink(self.path)}, where there is nothing"
                raise FileNotFoundError(errno.ENOENT, told) from None
            return ""
        except OSError as exc:
            if exc.errno != errno.ELOOP:
                raise
            return "a link that leads to itself"
        if stat.S_ISDIR(found.st_mode):
            return ""
        if not stat.S_ISREG(found.st_mode):
            return "a FIFO, a socket or a device"
        if self.path.is_symlink() and not _is_ledger(self.path):
            return f"a link to {os.readlink(self.path)}, which is no ledger"
        return ""

    def clear_beside(self) -> None:
        """Where SQLite would have its own files, what is no file goes out of the way. Raises OSError."""
        for suffix in BESIDE[1:]:
            beside = self._beside(suffix)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(beside.lstat().st_mode):
                    beside.rename(f"{self.free_name('foreign')}{suffix}")

    # Who may read it?

    def make(self) -> tuple[str, ...]:
        """The directory and the file, there and private."""
        self.path.parent.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE))
        return self.make_private()

    def make_private(self) -> tuple[str, ...]:
        """The owner's alone, those of an earlier release as well. What was not so, one line each.

        SQLite gives the files beside it the mode of the file. A file system without modes keeps its own.
        """
        return tuple(
            told
            for each, mode in ((self.path.parent, _DIRECTORY), *((p, _FILE) for p in self._all()))
            for told in _closed(each, mode)
        )

    # What is set aside.

    def set_aside(self, why: str) -> str:
        """Move what is here out of the way, with what SQLite has beside it; where to, "" if nothing is."""
        if not any(os.path.lexists(each) for each in self._all()):
            return ""
        aside = self.free_name(why)
        for suffix in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                self._beside(suffix).rename(f"{aside}{suffix}")
        return str(aside)

    def free_name(self, why: str) -> Path:
        """Of a ledger that is to be set aside. The oldest ones go."""
        old = sorted(self._aside(), key=lambda p: p.lstat().st_mtime)
        for each in old[: max(0, len(old) - KEPT_ASIDE + 1)]:
            for suffix in BESIDE:
                with contextlib.suppress(OSError):
                    each.with_name(each.name + suffix).unlink()
        names = (self.path.with_name(f"{self.path.name}.{why}-{n}") for n in count(1))
        return next(name for name in names if not any(os.path.lexists(f"{name}{s}") for s in BESIDE))

    def _aside(self) -> Iterator[Path]:
        name = re.compile(rf"{re.escape(self.path.name)}\.({'|'.join(REASONS)})-\d+")
        return (each for each in self.path.parent.iterdir() if name.fullmatch(each.name))

    def _all(self) -> Iterator[Path]:
        return (self._beside(suffix) for suffix in BESIDE)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _mark(found: os.stat_result) -> Mark:
    return found.st_dev, found.st_ino


def _is_ledger(path: Path) -> bool:
    """Looked at without a trace."""
    try:
        name = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(name, uri=True)) as db:
            return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'attachment'").fetchone() is not None
    except sqlite3.Error:
        return False


def _closed(path: Path, mode: int) -> Iterator[str]:
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return  # what it leads to is somebody else's
        if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
            return  # /tmp and its like are everybody's on purpose
        if found.st_uid != os.geteuid():
            os.chown(path, os.geteuid(), os.getegid())
            yield f"{path} belonged to uid {found.st_uid}"
        open_to = found.st_mode & 0o777
        if open_to & ~mode:
            path.chmod(open_to & mode)
            yield f"{path} had mode {open_to:o}"
    except FileNotFoundError:
        return
    except OSError as exc:
        log.warning("others may read %s: its mode cannot be changed to %o: %s", path, mode, exc.strerror)
