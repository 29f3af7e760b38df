"""The ledger in SQLite: WAL, ``synchronous=NORMAL``, one transaction per ``Changes``.

NORMAL is enough: a commit outlives the death of the process at once, and the death of the machine from the
next checkpoint on. After a machine's death the kernel objects are gone as well, and the cloud is asked what
it has (``control.daemon.recovery``), so a lost tail costs no address. A commit takes 0.02 to 0.05 ms.

The schema carries a version in ``PRAGMA user_version``. An older one is migrated in place, a newer one is
refused with what to do, since a downgrade could misread intents.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from control.model.errors import LedgerError
from control.model.records import Changes, Snapshot
from control.store import rows

_T = TypeVar("_T")

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
    sqlite3.SQLITE_CORRUPT: "the file is damaged: drain the node, then move the file away",
    sqlite3.SQLITE_NOTADB: "the file is no ledger: drain the node, then move the file away",
}
_OF_ERRNO = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_IOERR,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EIO: sqlite3.SQLITE_IOERR,
}
_SOME_REMEDY = (
    "check that {directory} is a directory that terwayd may write, and that the process has descriptors left"
)


class SqliteLedger:
    """One file, one writer: a second daemon on the same file is refused at once. Used from one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0, cached_statements=64)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
        except (OSError, sqlite3.Error) as exc:
            raise self._error("open", exc) from exc

    def _error(self, verb: str, exc: Exception) -> LedgerError:
        if isinstance(exc, sqlite3.Error):
            number = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
        else:
            number = _OF_ERRNO.get(getattr(exc, "errno", None) or 0, sqlite3.SQLITE_CANTOPEN)
        remedy = _REMEDIES.get(number, _SOME_REMEDY).format(directory=self._path.parent)
        return LedgerError(f"could not {verb} the ledger {self._path}: {exc}", remedy=remedy)

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
        try:
            self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (fact, value))
        except sqlite3.Error as exc:
            raise self._error("write", exc) from exc

    def close(self) -> None:
        self._db.close()
