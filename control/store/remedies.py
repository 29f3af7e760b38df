"""What an operator can do about a ledger that fails, by SQLite's primary result code."""

from __future__ import annotations

import errno
import sqlite3

from control.store.schema import NewerSchema

_PRIMARY = 0xFF
"""The part of an extended result code that is the primary one (sqlite.org/rescode.html)."""
_REMEDIES = {
    sqlite3.SQLITE_FULL: (
        "the filesystem of {directory} is full: free space there (see `df {directory}`); until then pods "
        "run on and can be deleted, and none can be added"
    ),
    sqlite3.SQLITE_READONLY: (
        "the file or the filesystem of {directory} is read-only: mount it writable, and see the kernel's log "
        "if it turned read-only by itself"
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk under {directory} failed, or a quota or size limit of it is used up: see the kernel's log "
        "and the quota"
    ),
    sqlite3.SQLITE_BUSY: "another terwayd may hold it: end that one first",
    sqlite3.SQLITE_LOCKED: "another terwayd may hold it: end that one first",
    **dict.fromkeys(
        (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE),
        "nothing to do: terwayd sets the file aside and writes a new one, within seconds",
    ),
}
_SOME_REMEDY = (
    "check that {directory} is a directory that terwayd may write, and that the process has descriptors left"
)
_OF_ERRNO = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_IOERR,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EIO: sqlite3.SQLITE_IOERR,
    errno.EAGAIN: sqlite3.SQLITE_BUSY,
}
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""The file is there and can be read, and is no ledger or no longer one."""


class Damaged(sqlite3.DatabaseError):
    """What ``quick_check`` has found."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def code(exc: Exception) -> int:
    """The primary result code, of an error of the operating system the one that is nearest."""
    if isinstance(exc, NewerSchema):
        return sqlite3.SQLITE_NOTADB
    if isinstance(exc, sqlite3.ProgrammingError):  # a connection that is closed, or holds no such value
        return sqlite3.SQLITE_MISUSE
    if isinstance(exc, sqlite3.Error):
        return int(getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & _PRIMARY
    if isinstance(exc, ValueError | KeyError | TypeError):  # a row that nobody wrote so
        return sqlite3.SQLITE_NOTADB
    return _OF_ERRNO.get(getattr(exc, "errno", None) or 0, sqlite3.SQLITE_CANTOPEN)


def remedy(number: int, directory: object) -> str:
    return _REMEDIES.get(number, _SOME_REMEDY).format(directory=directory)
