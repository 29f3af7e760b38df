"""The ledger's side of an allocation: the intent of an ADD, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from control.agent.state.journal import Journal
from control.ipam import transitions
from control.ipam.allocator import Allocation, AllocationRequest
from control.ipam.book import Book
from control.model.ids import Address
from control.model.records import AttachmentRecord, AttachmentState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LedgerReservation:
    """Implements ``control.ipam.allocator.Reservation``."""

    record: AttachmentRecord
    journal: Journal
    cool: frozenset[Address]
    """What cools when it is given up unused: an earlier sandbox of the pod has it, or had it a moment ago."""

    def commit(self, *, replaces: Sequence[AttachmentRecord] = ()) -> None:
        journal = self.journal
        journal.record(transitions.commit(journal.book, self.record, journal.now(), replaces=replaces))

    def release(self) -> None:
        journal = self.journal
        journal.record(transitions.unreserve(journal.book, self.record, journal.now(), cool=self.cool))


def reserve(
    journal: Journal,
    request: AllocationRequest,
    allocation: Allocation,
    *,
    state: AttachmentState = AttachmentState.ADDING,
) -> LedgerReservation:
    """Record the intent. To be called in the same step as the choice. Raises LedgerError: nothing is
    reserved.

    ``state`` READY for a sandbox that runs already: the next start takes half-done ADDs to their end.
    """
    record = AttachmentRecord(
        key=request.key,
        pod=request.pod,
        uid=request.uid,
        netns=request.netns,
        host_link=_free_name(request, journal.book),
        uplink=allocation.uplink,
        ipv4=allocation.ipv4,
        ipv6=allocation.ipv6,
        state=state,
        since=journal.now(),
        made=journal.now(),
        mode=request.mode,
    )
    reservation = LedgerReservation(record, journal, _warm(journal, allocation))
    journal.record(transitions.reserve(journal.book, record))
    return reservation


def _free_name(request: AllocationRequest, book: Book) -> str:
    """The first that no other interface has. An earlier release gave pod web's net1 that of pod webnet1."""
    mine = (request.pod, request.key.ifname)

    def is_free(name: str) -> bool:
        return not name or all((a.pod, a.key.ifname) == mine for a in book.of_host_link(name))

    return next(filter(is_free, request.host_links), request.host_links[-1])


def _warm(journal: Journal, allocation: Allocation) -> frozenset[Address]:
    """Addresses that the pod's previous sandbox has, or had a moment ago: not everybody's yet."""
    book, now = journal.book, journal.now()
    records = [book.addresses[a] for a in allocation.addresses()]
    return frozenset(r.address for r in records if r.owner is not None or book.usable_at(r) > now)
