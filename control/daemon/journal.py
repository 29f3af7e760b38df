"""The ledger and the book as one: a change is on disk before it is in memory, or in neither."""

from __future__ import annotations

from dataclasses import replace

from control.ipam.book import Book
from control.model.clock import Clock
from control.model.records import Changes, Ledger, Snapshot


class Journal:
    def __init__(self, ledger: Ledger, clock: Clock, *, cooldown: float) -> None:
        self._ledger = ledger
        self._clock = clock
        snapshot = _not_after(ledger.load(), clock.now())
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


def _not_after(snapshot: Snapshot, now: float) -> Snapshot:
    """A wall clock that was set back makes times of the ledger lie ahead: they count from now on.

    Otherwise what was released then would cool until the clock has caught up, and hold back all behind it.
    """
    return replace(
        snapshot,
        addresses=tuple(replace(a, since=min(a.since, now)) for a in snapshot.addresses),
        attachments=tuple(replace(a, since=min(a.since, now)) for a in snapshot.attachments),
    )
