"""ENIs that nobody remembers: made, attached to nothing, and in no ledger.

A machine that dies between Create and Attach takes the last commits of the ledger with it, and a ledger may
be lost or restored from a copy. Such an ENI is on no instance's list; it is found by its tags, and given
back. It has no address that anybody uses, so nothing is lost by that, and a new one is made when it is
needed.

What is found must be an orphan twice, ``ORPHAN_AGE`` apart: an answer may lag, and another agent of the same
node (the one before this one, say) may be about to attach it. While a creation's outcome is unknown here,
nothing is judged: its ENI may be the one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from control.agent.allocation.operations import CloudWork, new_token
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.cloud import Eni
from control.model.ids import EniId
from control.model.records import Operation, OperationKind

log = logging.getLogger(__name__)

SWEEP_PERIOD = 6 * 3600.0
"""Seconds between two looks while there is no reason for one: each is a call to the cloud."""
ORPHAN_AGE = 300.0
"""Seconds an ENI must have been without anybody. An attachment takes one minute at most."""

SUSPECTED = "orphans_suspected"
"""Fact in the ledger: there is a reason to look, which a restart must not forget."""


class Orphans:
    def __init__(self, *, journal: Journal, work: CloudWork) -> None:
        self._journal = journal
        self._ownership = work.ownership
        work.on_unknown = self.suspect
        suspected = bool(journal.facts.get(SUSPECTED))
        self._due = journal.now() + (0.0 if suspected else SWEEP_PERIOD)
        self._seen: dict[EniId, float] = {}

    def suspect(self) -> None:
        """There is a reason: the machine died, or the ledger knows less than there is."""
        self._due = self._journal.now()
        self._journal.note(SUSPECTED, "yes")

    def suspect_later(self) -> None:
        """The ledger is new, as on a new node: no call is made for that, the next one for a new ENI tells."""
        self._ownership.on_tagged = self._look_at

    async def sweep(self) -> bool:
        """Look if it is time to. True if something is to be given back: an operation in the ledger."""
        now = self._journal.now()
        creating = any(
            o.kind is OperationKind.CREATE_ENI and o.eni_id is None
            for o in self._journal.book.operations.values()
        )
        if creating or now < self._due:
            return False
        self._look_at(await self._ownership.orphans())
        old = [eni for eni, since in self._seen.items() if now - since >= ORPHAN_AGE]
        for eni in old:
            log.warning("ENI %s was made for this node, is attached to nothing and unknown: given back", eni)
            operation = Operation(new_token(), OperationKind.RELEASE_ENI, now, eni)
            self._journal.record(transitions.begin_release(self._journal.book, operation, now))
        return bool(old)

    def _look_at(self, orphans: Collection[Eni]) -> None:
        now = self._journal.now()
        self._seen = {eni: self._seen.get(eni, now) for eni in (e.eni_id for e in orphans)}
        self._due = now + (ORPHAN_AGE if orphans else SWEEP_PERIOD)
        if not orphans and self._journal.facts.get(SUSPECTED):
            self._journal.note(SUSPECTED, "")
