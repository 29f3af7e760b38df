"""The ledger and the book as one: a change is on disk before it is in memory, or in neither."""

from __future__ import annotations

import logging
from dataclasses import replace

from control.ipam.book import Book
from control.model.clock import Clock
from control.model.errors import LedgerError
from control.model.ids import AttachmentKey
from control.model.records import Changes, Ledger, Snapshot

log = logging.getLogger(__name__)

PROBE = "probe"
"""The fact that is written to see whether the ledger can be written."""


class Journal:
    def __init__(self, ledger: Ledger, clock: Clock, *, cooldown: float) -> None:
        self._ledger = ledger
        self._clock = clock
        snapshot = _not_after(ledger.load(), clock.now())
        self.facts = dict(snapshot.facts)
        self.book = Book(snapshot, cooldown=cooldown)
        self.changed_at = clock.now()
        """Time of the last allocation or release, for idle reclaim."""
        self.trouble: LedgerError | None = None
        """Why the last write failed; None if it did not. While there is one every ADD fails."""
        self.owed: set[AttachmentKey] = set()
        """Attachments whose DEL was answered and whose rows could not be removed: their network is gone."""

    def now(self) -> float:
        return self._clock.now()

    def record(self, changes: Changes) -> None:
        """Raises LedgerError, and then nothing has changed."""
        try:
            self._ledger.write(changes)
        except LedgerError as exc:
            self._failed(exc)
            raise
        if self.trouble is not None:
            self._written()
        self.book.apply(changes)
        if self.owed:
            self.owed.difference_update(changes.gone_attachments)
        if changes.attachments or changes.gone_attachments:
            self.changed_at = self._clock.now()

    def remember(self, fact: str, value: str) -> None:
        """Raises LedgerError. What the ledger has is not written again: a start needs no free disk."""
        if self.facts.get(fact) == value:
            return
        try:
            self._ledger.remember(fact, value)
        except LedgerError as exc:
            self._failed(exc)
            raise
        if self.trouble is not None:
            self._written()
        self.facts[fact] = value

    def disown(self) -> None:
        """Forget every record, as they are another node's: nothing of them is carried out."""
        book = self.book
        self.record(
            Changes(
                gone_enis=tuple(book.enis),
                gone_addresses=tuple(book.addresses),
                gone_attachments=tuple(book.attachments),
                gone_operations=tuple(book.operations),
            )
        )
        self.owed.clear()

    def note(self, fact: str, value: str) -> None:
        """As ``remember``, for what can be asked for again: kept in memory alone if the ledger refuses it."""
        try:
            self.remember(fact, value)
        except LedgerError as exc:
            log.warning("%s is known until the next restart only: %s", fact, exc)
            self.facts[fact] = value

    def probe(self) -> bool:
        """Write something, and see whether there is still ``trouble``."""
        try:
            self.remember(PROBE, repr(self.now()))
        except LedgerError:
            return False
        return True

    def _failed(self, exc: LedgerError) -> None:
        if self.trouble is None:
            log.error("pods cannot be added: %s", exc)
        self.trouble = exc

    def _written(self) -> None:
        log.warning("the ledger can be written again")
        self.trouble = None


def _not_after(snapshot: Snapshot, now: float) -> Snapshot:
    """A wall clock that was set back makes times of the ledger lie ahead: they count from now on.

    Otherwise what was released then would cool until the clock has caught up, and hold back all behind it.
    """
    return replace(
        snapshot,
        addresses=tuple(replace(a, since=min(a.since, now)) for a in snapshot.addresses),
        attachments=tuple(replace(a, since=min(a.since, now)) for a in snapshot.attachments),
    )
