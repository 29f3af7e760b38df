"""The ledger that is there, or what stands in for one that cannot be opened.

DEL needs no ledger, and an agent that ended would take DEL along: an eviction could then free neither the
disk nor the node. So a file where the directory should be, or a disk that fails, holds up the start, as a
cloud does that is away, and ends no agent. A file that is no ledger is set aside by ``SqliteLedger`` itself.
"""

from __future__ import annotations

from pathlib import Path

from control.model.errors import LedgerError
from control.model.records import Changes, HistoryRecord, Snapshot, Subject
from control.store.ledger import LedgerTaken, SqliteLedger


class LedgerFound(LedgerError):
    """It can be opened by now, and says what this process has not read: it has to be started anew."""


class UnreadLedger:
    """Knows nothing, takes nothing, and says why."""

    moved_aside = ""

    def __init__(self, path: Path, reason: LedgerError) -> None:
        self._path = path
        self._reason = reason

    def look_again(self) -> None:
        """Always raises: why it still cannot be opened, or LedgerFound."""
        try:
            SqliteLedger(self._path).close()
        except LedgerError as exc:
            self._reason = exc
            raise
        raise LedgerFound(
            f"the ledger {self._path} can be read again",
            remedy="terwayd ends here, as it has to be started anew with it",
        )

    def load(self) -> Snapshot:
        return Snapshot()

    def write(self, changes: Changes) -> None:
        del changes
        raise self._reason

    def remember(self, fact: str, value: str) -> None:
        del fact, value
        raise self._reason

    def history(self, of: Subject) -> tuple[HistoryRecord, ...]:
        del of
        raise self._reason

    def missing(self) -> str:
        return ""

    def make_private(self) -> tuple[str, ...]:
        return ()

    def begin_anew(self, snapshot: Snapshot, *, aside: str = "") -> str:
        del snapshot, aside
        raise self._reason

    def keep_copy(self, why: str) -> str:
        del why
        raise self._reason

    def write_schema_1(self) -> None:
        raise self._reason

    def close(self) -> None:
        pass


def open_ledger(path: Path) -> SqliteLedger | UnreadLedger:
    """Raises LedgerTaken: a node has one terwayd."""
    try:
        return SqliteLedger(path)
    except LedgerTaken:
        raise
    except LedgerError as exc:
        return UnreadLedger(path, exc)
