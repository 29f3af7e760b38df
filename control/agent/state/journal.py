"""The ledger and the book as one: a change is on disk before it is in memory, or in neither."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from control.ipam.book import Book
from control.model.clock import Clock
from control.model.errors import LedgerError
from control.model.ids import AttachmentKey
from control.model.records import Changes, HistoryRecord, Ledger, Snapshot, Subject

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

    def read_fact(self, fact: str) -> Any:
        """A fact that is JSON. None if there is none, or it cannot be read: another hand has altered it."""
        try:
            return json.loads(self.facts.get(fact, "null"))
        except ValueError as exc:
            log.warning("fact %s of the ledger cannot be read and is asked for again: %s", fact, exc)
            return None

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

    def disown(self, *, keep: Collection[str]) -> str:
        """Set the ledger aside, as its records are another node's: nothing of them is carried out.

        ``keep``: facts that are true of every node. Where it is now. Raises LedgerError, and then nothing
        has changed.
        """
        facts = {fact: value for fact, value in self.facts.items() if fact in keep}
        aside = self._begin_anew(Snapshot(facts=facts), aside="other-node")
        book = self.book
        book.apply(
            Changes(
                gone_enis=tuple(book.enis),
                gone_addresses=tuple(book.addresses),
                gone_attachments=tuple(book.attachments),
                gone_operations=tuple(book.operations),
            )
        )
        self.facts = facts
        self.owed.clear()
        return aside

    def look_after(self) -> tuple[str, ...]:
        """See that the ledger is where a later start looks for it, and its owner's alone.

        What was found otherwise and put right, one line each. One that is gone is written anew from memory,
        which has everything but, if the old file cannot be read any more, the history. A failure is
        ``trouble``, as that of any write is.
        """
        put_back = tuple(f"{each}: taken back" for each in self._ledger.make_private())
        missing = self._ledger.missing()
        if not missing:
            return put_back
        try:
            foreign = self._begin_anew(self._snapshot())
        except LedgerError:
            return put_back
        told = f"the ledger was lost under terwayd ({missing}) and is written anew from memory"
        return (*put_back, f"{told}; what was found there is now {foreign}" if foreign else told)

    def _begin_anew(self, snapshot: Snapshot, *, aside: str = "") -> str:
        try:
            moved = self._ledger.begin_anew(snapshot, aside=aside)
        except LedgerError as exc:
            self._failed(exc)
            raise
        if self.trouble is not None:
            self._written()
        return moved

    def _snapshot(self) -> Snapshot:
        book = self.book
        return Snapshot(
            tuple(book.enis.values()),
            tuple(book.addresses.values()),
            tuple(book.attachments.values()),
            tuple(book.operations.values()),
            dict(self.facts),
        )

    def keep_copy(self, why: str) -> str:
        """Set a copy of the ledger aside as it is; where that is, "" if it could not be made."""
        try:
            return self._ledger.keep_copy(why)
        except LedgerError as exc:
            log.warning("no copy is kept of the ledger as it was found: %s", exc)
            return ""

    def history(self, of: Subject) -> tuple[HistoryRecord, ...]:
        """What has ended. Raises LedgerError."""
        return self._ledger.history(of)

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
        enis=tuple(replace(e, since=min(e.since, now)) for e in snapshot.enis),
        addresses=tuple(replace(a, since=min(a.since, now)) for a in snapshot.addresses),
        attachments=tuple(
            replace(a, since=min(a.since, now), made=min(a.made, now)) for a in snapshot.attachments
        ),
        operations=tuple(replace(o, since=min(o.since, now)) for o in snapshot.operations),
    )
