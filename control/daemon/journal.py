"""The ledger and the book as one: a change is on disk before it is in memory, or in neither."""

from __future__ import annotations

from control.ipam.book import Book
from control.model.clock import Clock
from control.model.records import Changes, Ledger


class Journal:
    def __init__(self, ledger: Ledger, clock: Clock, *, cooldown: float) -> None:
        self._ledger = ledger
        self._clock = clock
        snapshot = ledger.load()
        self.facts = dict(snapshot.facts)
        self.book = Book(snapshot, cooldown=cooldown)
        self.changed_at = clock.now()
        """Time of the last allocation or release, for idle reclaim."""

    def now(self) -> float:
        return self._clock.now()

    def record(self, changes: Changes) -> None:
        """Raises LedgerError, and then nothing has changed."""
        self._ledger.write(changes)
        self.book.apply(changes)
        if changes.attachments or changes.gone_attachments:
            self.changed_at = self._clock.now()

    def remember(self, fact: str, value: str) -> None:
        self._ledger.remember(fact, value)
        self.facts[fact] = value
