"""The past of the addresses, bounded per pod, per address and in all: what is new pushes out what is old."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from operator import itemgetter

from control.model.ids import Address, PodKey
from control.model.records import (
    HISTORY_AT_MOST,
    HISTORY_BATCH,
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
_ADD = f"INSERT INTO history ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)})"
_VALUES = itemgetter(*_COLUMNS)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM history WHERE {{}} ORDER BY id"


class History:
    """The table of one connection. ``add`` is called within a transaction of the caller's."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.count()

    def add(self, records: Iterable[HistoryRecord]) -> None:
        """Raises sqlite3.Error; ``count`` again then, as the caller rolls back."""
        for record in records:
            row = rows.history_row(record)
            self._db.execute(_ADD, _VALUES(row))
            self._count += 1
            added = self._added.get(record.address, 0) + 1
            if added == HISTORY_BATCH:
                self._prune(row)
                added = 0
            self._added[record.address] = added
        if self._count > HISTORY_AT_MOST:
            self._count -= self._db.execute(_OLDEST, (self._count - HISTORY_AT_MOST,)).rowcount

    def _prune(self, row: rows.Row) -> None:
        """What is too much of the row's address, of failed ADDs first and then pod by pod."""
        pods = self._db.execute("SELECT DISTINCT namespace, pod FROM history WHERE address = :address", row)
        crowd = [{"address": row["address"], "namespace": n, "pod": pod} for n, pod in pods.fetchall()]
        failed = {"address": row["address"], "ended": Ended.FAILED.value}
        bounds = (_OLD_OF_FAILED, failed), *((_OLD_OF_POD, one) for one in crowd), (_OLD_OF_ADDRESS, row)
        for old, values in bounds:
            self._count -= self._db.execute(old, values).rowcount

    def count(self) -> None:
        """Anew, from the file. What is too much of an address goes with its eighth row from now on."""
        (self._count,) = self._db.execute("SELECT count(*) FROM history").fetchone()
        self._added: dict[Address, int] = {}

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
                records.append(
                    rows.history_record(rows.sound(dict(zip(_COLUMNS, row, strict=True)), _COLUMNS))
                )
            except ValueError as exc:
                log.warning("a row of the history cannot be read and is left out: %s", exc)
        return tuple(records)


class MemoryHistory:
    """The same without a disk."""

    def __init__(self) -> None:
        self._records: list[HistoryRecord] = []
        self._added: Counter[Address] = Counter()

    def add(self, records: Iterable[HistoryRecord]) -> None:
        for record in records:
            self._records.append(record)
            self._added[record.address] += 1
            if self._added[record.address] % HISTORY_BATCH == 0:
                self._prune(record.address)
        del self._records[: max(0, len(self._records) - HISTORY_AT_MOST)]

    def _prune(self, address: Address) -> None:
        crowd = {r.pod for r in self._records if r.address == address}
        self._keep(HISTORY_OF_FAILED, address, ended=Ended.FAILED)
        for pod in crowd:
            self._keep(HISTORY_OF_POD, address, pod=pod)
        self._keep(HISTORY_OF_ADDRESS, address)

    def _keep(
        self, most: int, address: Address, *, pod: PodKey | None = None, ended: Ended | None = None
    ) -> None:
        """Only the last of those that are meant."""
        found = [
            n
            for n, r in enumerate(self._records)
            if r.address == address and pod in (None, r.pod) and ended in (None, r.ended)
        ]
        for n in reversed(found[: max(0, len(found) - most)]):
            del self._records[n]

    def of(self, subject: Subject) -> tuple[HistoryRecord, ...]:
        return tuple(r for r in self._records if subject in (r.address, r.pod, r.eni_id))
