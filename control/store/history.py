"""The past of the addresses, bounded per pod, per address and in all: what is new pushes out what is old."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from control.model.ids import PodKey
from control.model.records import (
    HISTORY_AT_MOST,
    HISTORY_OF_ADDRESS,
    HISTORY_OF_FAILED,
    HISTORY_OF_POD,
    Ended,
    HistoryRecord,
    Subject,
)
from control.store import rows

log = logging.getLogger(__name__)

_OLD = "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE {} ORDER BY id DESC LIMIT -1 OFFSET {})"
_OLD_OF_POD = _OLD.format("address = :address AND namespace = :namespace AND pod = :pod", HISTORY_OF_POD)
_OLD_OF_ADDRESS = _OLD.format("address = :address", HISTORY_OF_ADDRESS)
_OLD_OF_FAILED = _OLD.format("address = :address AND ended = :ended", HISTORY_OF_FAILED)
_OLDEST = "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY id LIMIT ?)"
_COLUMNS = (
    "address",
    "namespace",
    "pod",
    "uid",
    "container_id",
    "ifname",
    "mode",
    "eni_id",
    "since",
    "until",
    "ended",
)
_ADD = f"INSERT INTO history ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{c}' for c in _COLUMNS)})"
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM history WHERE {{}} ORDER BY id"


class History:
    """The table of one connection. ``add`` is called within a transaction of the caller's."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        (self._count,) = db.execute("SELECT count(*) FROM history").fetchone()

    def add(self, records: Iterable[HistoryRecord]) -> None:
        """Raises sqlite3.Error; ``count`` again then, as the caller rolls back."""
        for record in records:
            row = rows.history_row(record)
            self._db.execute(_ADD, row)
            self._count += 1
            failed = (_OLD_OF_FAILED,) if record.ended is Ended.FAILED else ()
            for old in (*failed, _OLD_OF_POD, _OLD_OF_ADDRESS):
                self._count -= self._db.execute(old, row).rowcount
        if self._count > HISTORY_AT_MOST:
            self._count -= self._db.execute(_OLDEST, (self._count - HISTORY_AT_MOST,)).rowcount

    def count(self) -> None:
        (self._count,) = self._db.execute("SELECT count(*) FROM history").fetchone()

    def of(self, subject: Subject) -> tuple[HistoryRecord, ...]:
        if isinstance(subject, IPv4Address | IPv6Address):
            return self._read("address = ?", str(subject))
        if isinstance(subject, PodKey):
            return self._read("namespace = ? AND pod = ?", subject.namespace, subject.name)
        return self._read("eni_id = ?", subject)

    def all(self) -> tuple[HistoryRecord, ...]:
        return self._read("1")

    def _read(self, where: str, *values: str) -> tuple[HistoryRecord, ...]:
        """Without what a later release has written in words of its own: no pod depends on the past."""
        found = self._db.execute(_SELECT.format(where), values).fetchall()
        records = []
        for row in found:
            try:
                records.append(rows.history_record(dict(zip(_COLUMNS, row, strict=True))))
            except ValueError as exc:
                log.warning("a row of the history cannot be read and is left out: %s", exc)
        return tuple(records)


class MemoryHistory:
    """The same without a disk."""

    def __init__(self) -> None:
        self._records: list[HistoryRecord] = []

    def add(self, records: Iterable[HistoryRecord]) -> None:
        for record in records:
            self._records.append(record)
            address = [r for r in self._records if r.address == record.address]
            pod = [r for r in address if r.pod == record.pod]
            failed = [r for r in address if record.ended is r.ended is Ended.FAILED]
            bounds = (failed, HISTORY_OF_FAILED), (pod, HISTORY_OF_POD), (address, HISTORY_OF_ADDRESS)
            for found, most in bounds:
                if len(found) > most and found[0] in self._records:
                    self._records.remove(found[0])
        del self._records[: max(0, len(self._records) - HISTORY_AT_MOST)]

    def of(self, subject: Subject) -> tuple[HistoryRecord, ...]:
        return tuple(r for r in self._records if subject in (r.address, r.pod, r.eni_id))
