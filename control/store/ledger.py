"""The ledger in SQLite: WAL, ``synchronous=NORMAL``, one transaction per ``Changes``.

NORMAL is enough: a commit outlives the death of the process at once, and the death of the machine from the
next checkpoint on. After a machine's death the kernel objects are gone as well, and the cloud is asked what
it has (``control.agent.reconcile``), so a lost tail costs no address. A commit takes 0.02 to 0.05 ms.

Whatever a start finds instead of a ledger it sets aside, and begins a new one: what runs is asked of kernel,
cloud and Kubernetes (``control.agent.reconcile.rebuild``). What is lost under a running agent is written anew
from what it knows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path

from control.model.errors import LedgerError
from control.model.records import Changes, HistoryRecord, Snapshot, Subject
from control.store import schema
from control.store.memory import as_changes
from control.store.place import BESIDE, Place
from control.store.remedies import DAMAGED, Damaged, code, remedy
from control.store.tables import Tables

log = logging.getLogger(__name__)

MEMORY = "/dev/shm"
"""Where a file goes that no disk is needed for."""
_UNREADABLE = (sqlite3.Error, ValueError, KeyError, TypeError)
"""What reading a row raises that nobody wrote so."""


class LedgerTaken(LedgerError):
    """Another process holds it."""


class SqliteLedger:
    """One file, one writer: a second daemon on the same file is refused at once. Used from one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = Place(path)
        self.moved_aside = ""
        """Why a file was set aside at the start and where it is; "" if the ledger was sound."""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        """Where a ledger that cannot be written where it is has been read; writes go nowhere then."""
        self._spoilt = ""
        """Why no write will succeed in this file any more, since SQLite found it damaged."""
        self._for_schema_1 = False
        """It was written back for the release before, which is about to be installed."""
        try:
            self._lock_and_open()
        except BaseException:
            self._place.unlock()
            raise

    def _lock_and_open(self) -> None:
        try:
            self._place.lock()
            if strange := self._place.strange():
                aside = self._place.set_aside("foreign")
                self.moved_aside = f"in the ledger's place was {strange}, which was moved to {aside}"
            self._place.clear_beside()
            self._place.make()
            self._open(self._path)
        except (OSError, *_UNREADABLE) as exc:
            self._open_otherwise(exc)

    def _open_otherwise(self, exc: Exception) -> None:
        unwritable = self._place.is_read_only() or code(exc) == sqlite3.SQLITE_FULL
        if isinstance(exc, BlockingIOError):
            raise self._error("open", exc) from exc
        if unwritable and self._path.is_file():
            log.error("pods cannot be added: %s", self._error("open", exc))
            self._read_copy()
        elif code(exc) in DAMAGED:
            self._set_aside(exc)
        else:
            raise self._error("open", exc) from exc

    def _open(self, path: Path) -> None:
        """Opened, brought up to date, checked, and each of its rows understood."""
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0, cached_statements=64)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            schema.bring_up_to_date(self._db)
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise Damaged(found)
            self._tables = Tables(self._db)
            self._tables.read()
        except BaseException:
            self._db.close()
            raise
        if path == self._path:
            self._place.remember()

    def _read_copy(self) -> None:
        """A disk that takes no more: what is on it is still known, and pods can be deleted."""
        try:
            memory = MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir()
            prefix = f"terway-ledger-{self._place.locked}-"
            for left in Path(memory).glob(f"{prefix}*"):  # by one that was killed, as the place is ours now
                shutil.rmtree(left, ignore_errors=True)
            self._copy = tempfile.TemporaryDirectory(prefix=prefix, dir=memory)
            for suffix in ("", "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(f"{self._path}{suffix}", self._copy.name)
            self._open(Path(self._copy.name) / self._path.name)
        except (OSError, *_UNREADABLE) as exc:
            raise self._error("read", exc) from exc

    def _leave_copy(self) -> None:
        """Go on in the file itself, if it can be written by now. Raises LedgerError."""
        if self._copy is None:
            return
        copy, tables = self._db, self._tables
        try:
            self._open(self._path)
        except (OSError, *_UNREADABLE) as exc:
            self._db, self._tables = copy, tables
            raise self._error("write", exc) from exc
        copy.close()
        self._copy.cleanup()
        self._copy = None

    def _set_aside(self, found: Exception) -> None:
        newer = isinstance(found, schema.NewerSchema)
        try:
            aside = self._place.set_aside("newer" if newer else "damaged")
            self._place.make()
            self._open(self._path)
        except (OSError, *_UNREADABLE) as exc:
            raise self._error("begin anew", exc) from exc
        told = f"cannot be used here ({found})" if newer else f"was damaged ({found})"
        self.moved_aside = f"the ledger {told} and was moved to {aside}"

    def _error(self, verb: str, exc: Exception) -> LedgerError:
        number = code(exc)
        if number != sqlite3.SQLITE_BUSY and self._place.is_read_only():  # which SQLite may call an I/O error
            number = sqlite3.SQLITE_READONLY
        if number in DAMAGED or number == sqlite3.SQLITE_MISUSE:
            self._spoilt = str(exc)
        kind = LedgerTaken if number == sqlite3.SQLITE_BUSY and verb == "open" else LedgerError
        told = f"could not {verb} the ledger {self._path}: {exc}"
        return kind(told, remedy=remedy(number, self._path.parent))

    # What is in it.

    def load(self) -> Snapshot:
        try:
            return self._tables.read()
        except _UNREADABLE as exc:
            raise self._error("read", exc) from exc

    def history(self, of: Subject) -> tuple[HistoryRecord, ...]:
        try:
            return self._tables.history.of(of)
        except _UNREADABLE as exc:
            raise self._error("read the history in", exc) from exc

    def write(self, changes: Changes) -> None:
        self._leave_copy()
        if unsayable := self._tables.unsayable(changes):
            raise LedgerError(
                f"the ledger {self._path} was written back to schema 1, which has no word for {unsayable}",
                remedy="install the release before now, or restart terwayd to stay with this one",
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._tables.put(changes)
                self._tables.drop(changes)
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            self._place.written = True
        except sqlite3.Error as exc:
            raise self._error("write", exc) from exc

    def _roll_back(self) -> None:
        """On a full disk SQLite has ended the transaction itself; what failed first is the cause."""
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._tables.history.count()

    def remember(self, fact: str, value: str) -> None:
        self._leave_copy()
        try:
            self._tables.remember(fact, value)
            self._place.written = True
        except sqlite3.Error as exc:
            raise self._error("write", exc) from exc

    # Where it is.

    def missing(self) -> str:
        try:
            return "" if self._copy is not None else self._spoilt or self._place.missing()
        except OSError as exc:
            return f"{self._path} cannot be looked at: {exc}"

    def make_private(self) -> tuple[str, ...]:
        return () if self._place.is_read_only() else self._place.make_private()

    def begin_anew(self, snapshot: Snapshot, *, aside: str = "") -> str:
        """The new file is complete before the old one is touched: a full disk changes nothing."""
        moved = ""
        try:
            intact = not self._place.missing()
            self._place.lock()
            made = self._made(snapshot, () if aside else self._readable_history())
            if intact:  # SQLite deletes what is beside a name when it closes it: first, if that is its own
                self._db.close()
            moved = self._place.set_aside(aside or ("damaged" if self._spoilt else "foreign"))
            self._db.close()
            made.rename(self._path)
            self._open(self._path)
            self._spoilt = ""
            if self._for_schema_1:
                self._to_schema_1()
        except (OSError, *_UNREADABLE) as exc:
            raise self._error("begin anew", exc) from exc
        return moved

    def _made(self, snapshot: Snapshot, history: Iterable[HistoryRecord]) -> Path:
        """A ledger under another name, on disk and closed."""
        made = self._path.with_name(f"{self._path.name}.new")
        for suffix in BESIDE:
            made.with_name(made.name + suffix).unlink(missing_ok=True)
        Place(made).make()
        with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as db:
            schema.bring_up_to_date(db)
            tables = Tables(db)
            db.execute("BEGIN IMMEDIATE")
            tables.put(as_changes(snapshot))
            tables.history.add(history)
            for fact, value in snapshot.facts.items():
                tables.remember(fact, value)
            db.execute("COMMIT")
        return made

    def _readable_history(self) -> tuple[HistoryRecord, ...]:
        """A file that is deleted can be read as long as it is open; one that was cut perhaps not."""
        try:
            return self._tables.history.all()
        except _UNREADABLE as exc:
            log.warning("the history of the addresses is lost with the ledger: %s", exc)
            return ()

    def keep_copy(self, why: str) -> str:
        copy = self._place.free_name(why)
        try:
            self._db.execute("VACUUM INTO ?", (str(copy),))
            copy.chmod(0o600)
        except (OSError, sqlite3.Error) as exc:
            raise self._error("copy", exc) from exc
        return str(copy)

    def write_schema_1(self) -> None:
        """From now on it is as the release before knows it, until a terwayd of this release is started.

        Raises LedgerError if there is something in it that schema 1 has no word for.
        """
        self._leave_copy()
        try:
            if schema.version_of(self._db) != 1:
                self._to_schema_1()
        except sqlite3.Error as exc:
            raise self._error("write", exc) from exc

    def _to_schema_1(self) -> None:
        strange = schema.unknown_to_schema_1(self._db)
        if strange:
            raise LedgerError(
                f"the ledger {self._path} cannot be written in schema 1, which has no word for {strange}",
                remedy="delete these pods, or drain the node, before the release before is installed",
            )
        schema.to_schema_1(self._db)
        self._for_schema_1 = True
        self._tables = Tables(self._db)

    def close(self) -> None:
        self._db.close()
        if self._copy is not None:
            self._copy.cleanup()
        self._place.unlock()
