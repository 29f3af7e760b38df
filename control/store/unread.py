"""The ledger that is there, or what stands in for one that cannot be opened.

DEL needs no ledger, and an agent that ended would take DEL along: an eviction could then free neither the
disk nor the node. So a file where the directory should be, a ledger of a newer release, or permissions that
somebody changed hold up the start, as a cloud does that is away, and end no agent.
"""

from __future__ import annotations

from pathlib import Path

from control.model.errors import LedgerError
from control.model.records import Changes, Snapshot
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
            _read(self._path).close()
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

    def close(self) -> None:
        pass


def open_ledger(path: Path) -> SqliteLedger | UnreadLedger:
    """Raises LedgerTaken: a node has one terwayd."""
    try:
        return _read(path)
    except LedgerTaken:
        raise
    except LedgerError as exc:
        return UnreadLedger(path, exc)


def _read(path: Path) -> SqliteLedger:
    """Opened, and each of its rows understood."""
    ledger = SqliteLedger(path)
    try:
        ledger.load()
    except LedgerError:
        ledger.close()
        raise
    return ledger
