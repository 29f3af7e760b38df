"""An allocator without a cloud: hands out what it was given. A contract holds it to the real ones."""

from __future__ import annotations

from collections.abc import Sequence

from control.agent.allocation.reservation import LedgerReservation, reserve
from control.agent.state.journal import Journal
from control.ipam.allocator import Allocation, AllocationRequest
from control.model.errors import PoolExhausted


class FakeAllocator:
    """Implements ``ipam.allocator.Allocator``. The ledger must know the addresses of ``allocations``."""

    def __init__(self, journal: Journal, allocations: Sequence[Allocation]) -> None:
        self._journal = journal
        self._allocations = tuple(allocations)
        self.refuses: PoolExhausted | None = None
        """What every request is refused with, as by a cloud that is away."""
        self.kicks = 0

    async def acquire(self, request: AllocationRequest) -> LedgerReservation:
        if self.refuses is not None:
            raise self.refuses
        for allocation in self._allocations:
            if not any(self._is_taken(allocation, request)):
                return reserve(self._journal, request, allocation)
        raise PoolExhausted(f"all of {len(self._allocations)} allocations are in use")

    def kick(self) -> None:
        self.kicks += 1

    def sync(self) -> None:
        self.kick()

    async def close(self) -> None:
        """Nobody ever waits here."""

    def _is_taken(self, allocation: Allocation, request: AllocationRequest) -> list[bool]:
        """By address: another's, or cooling for another's sake."""
        book, now = self._journal.book, self._journal.now()
        records = [book.addresses[address] for address in allocation.addresses()]
        return [
            r.owner is not None or (book.usable_at(r) > now and r.last_uid != request.uid) for r in records
        ]
