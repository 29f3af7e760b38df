"""What to give back: idle addresses beyond the maximum, whole ENIs where that fits, and what is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from control.agent.allocation.operations import new_token
from control.agent.allocation.runner import OperationRunner
from control.agent.state.journal import Journal
from control.ipam import sizing, transitions
from control.ipam.shedding import lost, shed
from control.ipam.statistics import PoolStatistics
from control.model.ids import EniId
from control.model.policies import EniPolicy
from control.model.records import AddressRecord, Operation, OperationKind

FROZEN_KEPT = 600.0
"""Seconds a frozen address that nobody holds may take to be seen again before it is given up."""


class Release:
    """One round of it per pool sync. The intent is in the ledger before the cloud is asked."""

    def __init__(
        self,
        *,
        journal: Journal,
        statistics: PoolStatistics,
        runner: OperationRunner,
        sizes: sizing.PoolSizes,
        policy: EniPolicy,
        reclaim: sizing.ReclaimSettings | None,
    ) -> None:
        self._journal = journal
        self._statistics = statistics
        self._runner = runner
        self._sizes = sizes
        self._policy = policy
        self._reclaim = reclaim
        self._reclaimed_at = journal.now()

    def release_lost(self) -> None:
        """Unassign what has long been lost and nobody holds: it only takes up room on its ENI."""
        before = self._journal.now() - FROZEN_KEPT
        busy = self._runner.busy_enis()
        for eni in list(self._journal.book.serving()):
            addresses = lost(self._journal.book, eni, before=before)
            if addresses and eni.eni_id not in busy:
                self._begin(OperationKind.RELEASE_ADDRESSES, eni.eni_id, addresses)

    def release_idle(self) -> None:
        now, book, count = self._journal.now(), self._journal.book, self._excess()
        busy: Collection[EniId] = self._runner.busy_enis()
        for one in shed(book, self._sizes, self._policy, count=count, busy=busy, now=now):
            self._begin(one.kind, one.eni_id, one.addresses)

    def _excess(self) -> int:
        now, usable = self._journal.now(), self._statistics.usable(self._journal.now())
        if self._reclaim is None:
            return sizing.excess(usable, self._sizes)
        due = now - self._reclaimed_at >= self._reclaim.interval
        quiet = now - self._journal.changed_at
        count = sizing.reclaim(usable, self._sizes, self._reclaim, quiet=quiet, due=due)
        if due and count:
            self._reclaimed_at = now
        return count

    def _begin(self, kind: OperationKind, eni_id: EniId, addresses: Iterable[AddressRecord]) -> None:
        now = self._journal.now()
        operation = Operation(new_token(), kind, now, eni_id, addresses=tuple(r.address for r in addresses))
        self._journal.record(transitions.begin_release(self._journal.book, operation, now))
        self._runner.carry_out(operation)
