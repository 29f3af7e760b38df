"""The ledger in SQLite: WAL, ``synchronous=NORMAL``, one transaction per ``Changes``.

NORMAL is enough: a commit outlives the death of the process at once, and the death of the machine from the
next checkpoint on. After a machine's death the kernel objects are gone as well, and the cloud is asked what
it has (``control.agent.reconcile``), so a lost tail costs no address. A commit takes 0.02 to 0.05 ms.

The schema carries a version in ``PRAGMA user_version``. An older one is migrated in place, a newer one is
refused with what to do, since a downgrade could misread intents.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import TypeVar

from control.model.errors import LedgerError
from control.model.records import Changes, Snapshot
from control.store import rows

log = logging.getLogger(__name__)

_T = TypeVar("_T")

MEMORY = "/dev/shm"
"""Where a file goes that no disk is needed for."""

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE eni (
    eni_id TEXT PRIMARY KEY, mac TEXT NOT NULL, vswitch_id TEXT NOT NULL, primary_ip TEXT NOT NULL,
    state TEXT NOT NULL, since REAL NOT NULL, cidr TEXT, gateway TEXT, cidr_v6 TEXT, gateway_v6 TEXT,
    reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE address (
    address TEXT PRIMARY KEY, eni_id TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL,
    container_id TEXT, ifname TEXT, last_uid TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE attachment (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
    uid TEXT NOT NULL, netns TEXT NOT NULL, host_link TEXT NOT NULL, eni_id TEXT NOT NULL,
    ipv4 TEXT, ipv6 TEXT, state TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (container_id, ifname)) WITHOUT ROWID;
CREATE TABLE operation (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, since REAL NOT NULL, eni_id TEXT, vswitch_id TEXT,
    security_groups TEXT NOT NULL, ipv4_count INTEGER NOT NULL, ipv6_count INTEGER NOT NULL,
    addresses TEXT NOT NULL) WITHOUT ROWID;
"""

_PUT_ENI = f"INSERT OR REPLACE INTO eni VALUES ({','.join('?' * 11)})"
_PUT_ADDRESS = f"INSERT OR REPLACE INTO address VALUES ({','.join('?' * 7)})"
_PUT_ATTACHMENT = f"INSERT OR REPLACE INTO attachment VALUES ({','.join('?' * 12)})"
_PUT_OPERATION = f"INSERT OR REPLACE INTO operation VALUES ({','.join('?' * 9)})"


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
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restart terwayd, which moves it aside and begins a new one",
    **dict.fromkeys(
        (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR),
        "the file is no ledger: move it away, with its -wal and -shm. Pods run on: the kernel is asked which "
        "addresses are in use, and these are neither handed out nor given back",
    ),
}
_MAGIC = b"SQLite format 3\0"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OF_ERRNO = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_IOERR,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EIO: sqlite3.SQLITE_IOERR,
    errno.EAGAIN: sqlite3.SQLITE_BUSY,
}
_SOME_REMEDY = (
    "check that {directory} is a directory that terwayd may write, and that the process has descriptors left"
)


class LedgerTaken(LedgerError):
    """Another process holds it."""


class _Damaged(sqlite3.DatabaseError):
    """What ``quick_check`` has found."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _code(exc: Exception) -> int:
    """The primary result code, of an error of the operating system the one that is nearest."""
    if isinstance(exc, sqlite3.Error):
        return int(getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & _PRIMARY
    if isinstance(exc, ValueError):  # a row that nobody wrote so
        return sqlite3.SQLITE_NOTADB
    return _OF_ERRNO.get(getattr(exc, "errno", None) or 0, sqlite3.SQLITE_CANTOPEN)


def _free_name(path: Path) -> Path:
    return next(p for n in count(1) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())


class SqliteLedger:
    """One file, one writer: a second daemon on the same file is refused at once. Used from one thread.

    A file that is damaged is moved aside and a new one begun: without a ledger a node can serve, as the
    kernel says which addresses are in use, and waiting for somebody mends no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.moved_aside = ""
        """Where the damaged file is, and what was wrong with it; "" if it was sound."""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        """Where a ledger that cannot be written where it is has been read; writes go nowhere then."""
        self._lock = -1
        """Of the directory: a disk that cannot be written has no other lock."""
        try:
            self._lock_and_open()
        except BaseException:
            self._unlock()
            raise

    def _lock_and_open(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _make_private(self._path)
            self._open(self._path)
        except (OSError, sqlite3.Error) as exc:
            self._open_otherwise(exc)

    def _open_otherwise(self, exc: Exception) -> None:
        taken = isinstance(exc, BlockingIOError)
        if not taken and self._is_read_only() and self._path.exists():
            log.error("pods cannot be added: %s", self._error("open", exc))
            self._read_copy()
        elif _code(exc) in _DAMAGED and self._was_a_database():
            self._begin_anew(exc)
        else:
            raise self._error("open", exc) from exc

    def _was_a_database(self) -> bool:
        """What has never been one is somebody's file, put there by mistake: it is left alone."""
        with self._path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def _open(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0, cached_statements=64)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _Damaged(found)
        except BaseException:
            self._db.close()
            raise

    def _read_copy(self) -> None:
        """A disk that turned read-only: what is on it is still known, and pods can be deleted."""
        try:
            memory = MEMORY if os.access(MEMORY, os.W_OK) else None
            self._copy = tempfile.TemporaryDirectory(prefix="terway-ledger-", dir=memory)
            for suffix in ("", "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(f"{self._path}{suffix}", self._copy.name)
            self._open(Path(self._copy.name) / self._path.name)
        except (OSError, sqlite3.Error) as exc:
            raise self._error("read", exc) from exc

    def _leave_copy(self) -> None:
        """Go on in the file itself, if it can be written by now. Raises LedgerError."""
        if self._copy is None:
            return
        copy = self._db
        try:
            self._open(self._path)
        except (OSError, sqlite3.Error) as exc:
            self._db = copy
            raise self._error("write", exc) from exc
        copy.close()
        self._copy.cleanup()
        self._copy = None

    def _begin_anew(self, damage: Exception) -> None:
        aside = _free_name(self._path)
        try:
            for suffix in ("", "-wal", "-shm"):
                file = self._path.with_name(self._path.name + suffix)
                if file.exists():
                    file.rename(f"{aside}{suffix}")
            _make_private(self._path)
            self._open(self._path)
        except (OSError, sqlite3.Error) as exc:
            raise self._error("begin anew", exc) from exc
        self.moved_aside = f"{aside}: {damage}"

    def _error(self, verb: str, exc: Exception) -> LedgerError:
        number = _code(exc)
        if number != sqlite3.SQLITE_BUSY and self._is_read_only():  # which SQLite may call an I/O error
            number = sqlite3.SQLITE_READONLY
        remedy = _REMEDIES.get(number, _SOME_REMEDY).format(directory=self._path.parent)
        kind = LedgerTaken if number == sqlite3.SQLITE_BUSY and verb == "open" else LedgerError
        return kind(f"could not {verb} the ledger {self._path}: {exc}", remedy=remedy)

    def _is_read_only(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(os.statvfs(self._path.parent).f_flag & os.ST_RDONLY)
        return False

    def _prepare(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            self._db.execute("ROLLBACK")
            raise LedgerError(
                f"the ledger {self._path} has schema {version}, this terwayd knows up to {SCHEMA_VERSION}",
                remedy="run the newer terwayd again, or drain the node and remove the file",
            )
        if version == 0:
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def load(self) -> Snapshot:
        def read(table: str, make: Callable[[rows.Row], _T]) -> tuple[_T, ...]:
            return tuple(make(r) for r in self._db.execute(f"SELECT * FROM {table}"))

        try:
            return Snapshot(
                enis=read("eni", rows.eni_record),
                addresses=read("address", rows.address_record),
                attachments=read("attachment", rows.attachment_record),
                operations=read("operation", rows.operation_record),
                facts=dict(self._db.execute("SELECT name, value FROM fact")),
            )
        except (sqlite3.Error, ValueError) as exc:
            raise self._error("read", exc) from exc

    def write(self, changes: Changes) -> None:
        self._leave_copy()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._put(changes)
                self._drop(changes)
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        except sqlite3.Error as exc:
            raise self._error("write", exc) from exc

    def _roll_back(self) -> None:
        """On a full disk SQLite has ended the transaction itself; what failed first is the cause."""
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _put(self, c: Changes) -> None:
        self._many(_PUT_ENI, map(rows.eni_row, c.enis))
        self._many(_PUT_ADDRESS, map(rows.address_row, c.addresses))
        self._many(_PUT_ATTACHMENT, map(rows.attachment_row, c.attachments))
        self._many(_PUT_OPERATION, map(rows.operation_row, c.operations))

    def _drop(self, c: Changes) -> None:
        self._many("DELETE FROM eni WHERE eni_id=?", ((e,) for e in c.gone_enis))
        self._many("DELETE FROM address WHERE address=?", ((str(a),) for a in c.gone_addresses))
        self._many(
            "DELETE FROM attachment WHERE container_id=? AND ifname=?",
            ((k.container_id, k.ifname) for k in c.gone_attachments),
        )
        self._many("DELETE FROM operation WHERE token=?", ((t,) for t in c.gone_operations))

    def _many(self, statement: str, values: Iterable[rows.Row]) -> None:
        for row in values:
            self._db.execute(statement, row)

    def remember(self, fact: str, value: str) -> None:
        self._leave_copy()
        try:
            self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (fact, value))
        except sqlite3.Error as exc:
            raise self._error("write", exc) from exc

    def close(self) -> None:
        self._db.close()
        if self._copy is not None:
            self._copy.cleanup()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _make_private(path: Path) -> None:
    """The directory and the file of the owner alone, those of an earlier release as well.

    SQLite gives the files beside it the mode of the file. A file system without modes keeps its own.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    beside = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))
    for each, mode in ((path.parent, 0o700), (path, 0o600), *((one, 0o600) for one in beside)):
        try:
            if each.stat().st_mode & 0o777 & ~mode:
                each.chmod(mode)
        except FileNotFoundError:
            continue
        except OSError as exc:
            log.warning("others may read %s: its mode cannot be changed to %o: %s", each, mode, exc.strerror)
