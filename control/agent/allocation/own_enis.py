"""The allocator of ENIs of a pod's own: one that serves and that nobody shares becomes the pod's alone.

It is EXCLUSIVE in the ledger from the moment it is reserved, so that the pool of shared ENIs leaves it out,
and SECONDARY again when the pod is gone. Where no ENI is free, one is created, within what the node may have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from control.agent.allocation.operations import new_token
from control.agent.allocation.queue import WaitingQueue
from control.agent.allocation.reservation import LedgerReservation, reserve
from control.agent.state.journal import Journal
from control.ipam.allocator import Allocation, AllocationRequest, Reservation, allocation
from control.model.errors import Cause, PoolExhausted
from control.model.ids import SecurityGroupId
from control.model.modes import EniKind, Uplink, UplinkKind
from control.model.records import AddressState, Changes, EniRecord, EniState, Operation, OperationKind

ACQUIRE_TIMEOUT = 100.0
"""Seconds, as ``pool.ACQUIRE_TIMEOUT``."""


LOOK_AGAIN = 1.0
"""Seconds: an address that cools tells nobody when it has cooled."""


class Runner(Protocol):
    """Carries out operations: ``runner.OperationRunner``."""

    @property
    def running(self) -> Collection[Operation]: ...

    def begin(self, operation: Operation) -> None: ...


@dataclass(frozen=True, slots=True)
class OwnEniSettings:
    """``max_enis``: how many ENIs for pods the node may have."""

    max_enis: int
    dual: bool
    security_groups: tuple[SecurityGroupId, ...]


class OwnEnis:
    """Implements ``control.ipam.allocator.Allocator``."""

    def __init__(self, *, journal: Journal, runner: Runner, settings: OwnEniSettings) -> None:
        self._journal = journal
        self._runner = runner
        self._settings = settings
        self._queue = WaitingQueue()

    async def acquire(self, request: AllocationRequest) -> Reservation:
        """See ``Allocator.acquire``."""
        if not self._queue:
            reservation = self._reserve(request)
            if reservation is not None:
                return reservation
        try:
            return await self._queue.wait(request, self.kick, timeout=ACQUIRE_TIMEOUT)
        except TimeoutError:
            raise self._exhausted() from None

    def kick(self) -> None:
        """Share again what no pod has any more, serve who waits, and have an ENI made for who still does."""
        self._give_back()
        self._queue.serve(self._reserve)
        short = self._queue.live() - self._coming()
        room = self._settings.max_enis - len(self._journal.book.enis) - self._coming()
        for _ in range(min(short, room)):
            self._runner.begin(self._creation())
        if short > room and not self._cooling():
            self._queue.refuse_last(short - max(room, 0), self._exhausted)
        if self._queue:
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self.kick)

    def _reserve(self, request: AllocationRequest) -> LedgerReservation | None:
        book, now = self._journal.book, self._journal.now()
        for eni in self._free():
            ipv4 = next(iter(book.usable(eni.eni_id, 4, now)), None) if request.ipv4 else None
            ipv6 = next(iter(book.usable(eni.eni_id, 6, now)), None) if request.ipv6 else None
            if (request.ipv4 and ipv4 is None) or (request.ipv6 and ipv6 is None):
                continue
            chosen = allocation(eni.eni_id, ipv4, ipv6)
            own = Allocation(Uplink(UplinkKind.OWN_ENI, eni.eni_id), chosen.ipv4, chosen.ipv6)
            self._journal.record(Changes(enis=(replace(eni, kind=EniKind.EXCLUSIVE),)))
            return reserve(self._journal, request, own)
        return None

    def _free(self) -> Iterator[EniRecord]:
        """ENIs that serve and that no pod has, those that were a pod's own already first."""
        book = self._journal.book
        busy = {a.eni_id for a in book.attachments.values()}
        serving = (eni for eni in book.enis.values() if eni.state is EniState.SERVING)
        free = [eni for eni in serving if eni.eni_id not in busy and not self._is_held(eni)]
        return iter(sorted(free, key=lambda eni: (eni.kind is not EniKind.EXCLUSIVE, eni.eni_id)))

    def _is_held(self, eni: EniRecord) -> bool:
        """A running pod of which the ledger knows nothing has an address of it."""
        book = self._journal.book
        return any(one.address in book.held for one in book.of_eni(eni.eni_id))

    def _give_back(self) -> None:
        book = self._journal.book
        busy = {a.eni_id for a in book.attachments.values()}
        idle = [e for e in book.enis.values() if e.kind is EniKind.EXCLUSIVE and e.eni_id not in busy]
        if idle and not self._queue:
            shared = tuple(replace(one, kind=EniKind.SECONDARY) for one in idle)
            self._journal.record(Changes(enis=shared))

    def _coming(self) -> int:
        return sum(1 for one in self._runner.running if one.kind is OperationKind.CREATE_ENI)

    def _cooling(self) -> bool:
        """An address of an ENI that nobody has will be usable by itself."""
        book = self._journal.book
        return any(r.state is AddressState.FREE for eni in self._free() for r in book.of_eni(eni.eni_id))

    def _creation(self) -> Operation:
        ipv6 = 1 if self._settings.dual else 0
        return Operation(
            new_token(),
            OperationKind.CREATE_ENI,
            self._journal.now(),
            security_groups=self._settings.security_groups,
            ipv4_count=1,
            ipv6_count=ipv6,
        )

    def _exhausted(self) -> PoolExhausted:
        return PoolExhausted(
            f"no ENI is free for a pod of its own: the node may have {self._settings.max_enis} for pods",
            cause=Cause.BUSY,
            remedy="have fewer pods on the node, or a larger instance type",
        )
