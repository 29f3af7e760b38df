"""The allocator of ENIs of a pod's own: one each, made for it, and the next pod's after it or given back.

It asks the cloud by the same operations as the pool of shared ENIs, waits by the same queue and is held off
by the same rejections, and both have the instance's ENIs between them. What an ENI is for is in the ledger
with it, and in its tags: a lost ledger shares no pod's own ENI.
"""

from __future__ import annotations

from dataclasses import dataclass

from control.agent.allocation.operations import new_token
from control.agent.allocation.queue import ACQUIRE_TIMEOUT, WaitingQueue, not_listed, stopping
from control.agent.allocation.reservation import LedgerReservation, reserve
from control.agent.allocation.runner import OperationRunner
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.ipam.allocator import Allocation, AllocationRequest, Reservation
from control.ipam.own_enis import OwnEni, own_enis
from control.ipam.rejections import CREATION, EVERYTHING, Rejection, Rejections, ScopeKind, of_uplink
from control.model.errors import Cause, PoolExhausted
from control.model.ids import SecurityGroupId
from control.model.modes import EniKind, Uplink, UplinkKind
from control.model.records import EniState, Operation, OperationKind

IDLE_KEPT = 120.0
"""Seconds an ENI is kept after its pod, cooldown included: the next one spares four calls and a hot-plug."""

_OF_CREATION = frozenset(
    {ScopeKind.CREATION, ScopeKind.EVERYTHING, ScopeKind.VSWITCH, ScopeKind.SECURITY_GROUP}
)


@dataclass(frozen=True, slots=True)
class ExclusiveSettings:
    max_enis: int
    """ENIs for pods, shared ones included."""
    security_groups: tuple[SecurityGroupId, ...]
    dual: bool = False


class ExclusiveAllocator:
    """Implements ``control.ipam.allocator.Allocator`` for ENIs of a pod's own."""

    def __init__(
        self,
        *,
        journal: Journal,
        runner: OperationRunner,
        rejections: Rejections,
        settings: ExclusiveSettings,
    ) -> None:
        self._journal = journal
        self._runner = runner
        self._rejections = rejections
        self._settings = settings
        self._queue = WaitingQueue()
        runner.on_end.append(self.kick)

    async def acquire(self, request: AllocationRequest) -> Reservation:
        """See ``Allocator.acquire``. Also raises LedgerError."""
        stopped = self._runner.closed
        return await self._queue.acquire(request, self._reserve, self.kick, late=self._late, stopped=stopped)

    def _late(self, request: AllocationRequest) -> PoolExhausted:
        if self._runner.pods_unlisted():
            return not_listed()
        told_no = self._refused_with(self._journal.now()) is not None
        return self._exhausted() if told_no else _out_of_patience(request)

    def kick(self) -> None:
        """Serve who waits, make an ENI for each that none is coming for, fail whom nothing can help."""
        if self._runner.closed:
            return
        self._queue.serve(self._reserve)
        waiting = self._queue.live()
        now = self._journal.now()
        held_off = self._rejections.held_off(now, EVERYTHING, CREATION)
        if not waiting or self._runner.pods_unlisted() or (self._runner.on_hold and not held_off):
            return
        missing = max(0, waiting - self._coming())
        making = 0 if held_off else min(missing, self._room())
        for _ in range(making):
            self._runner.begin(self._creation(now))
        self._queue.refuse_last(missing - making, self._exhausted)

    def sync(self) -> None:
        """Give back what no pod has had for a while, unless one waits."""
        self.kick()
        if self._runner.pods_unlisted():
            return
        now, busy = self._journal.now(), self._runner.busy_enis()
        for own in () if self._queue else self._own():
            idle_since = max(record.since or own.eni.since for record in own.addresses)
            if own.is_idle and now - idle_since >= IDLE_KEPT and own.eni.eni_id not in busy:
                addresses = tuple(record.address for record in own.addresses)
                operation = Operation(
                    new_token(), OperationKind.RELEASE_ENI, now, own.eni.eni_id, addresses=addresses
                )
                self._journal.record(transitions.begin_release(self._journal.book, operation, now))
                self._runner.carry_out(operation)

    async def close(self) -> None:
        """Whoever waits is told. The runner is closed by its owner."""
        self._queue.refuse_all(stopping)

    def _own(self) -> list[OwnEni]:
        return own_enis(self._journal.book)

    def _reserve(self, request: AllocationRequest) -> LedgerReservation | None:
        """Choice and intent in one step: the pod's own last ENI, else the longest idle."""
        if self._runner.pods_unlisted():
            return None
        now, book = self._journal.now(), self._journal.book
        fit = [
            own
            for own in self._own()
            if own.serves(request, book, now)
            and not self._rejections.held_off(now, of_uplink(own.eni.eni_id))
        ]
        if not fit:
            return None
        best = min(fit, key=lambda own: (not own.was_of(request.uid), own.addresses[0].since, own.eni.eni_id))
        uplink = Uplink(UplinkKind.OWN_ENI, best.eni.eni_id)
        return reserve(self._journal, request, Allocation(uplink, best.ipv4, best.ipv6_of(request)))

    def _coming(self) -> int:
        """ENIs under way for those who wait, begun by whichever daemon."""
        return sum(
            o.kind is OperationKind.CREATE_ENI and o.eni_kind is EniKind.EXCLUSIVE
            for o in self._runner.unfinished()
        )

    def _room(self) -> int:
        """ENIs that the instance may have more, those counted that the cloud has not named yet."""
        nameless = sum(
            o.kind is OperationKind.CREATE_ENI and o.eni_id is None for o in self._runner.unfinished()
        )
        return max(0, self._settings.max_enis - len(self._journal.book.enis) - nameless)

    def _creation(self, now: float) -> Operation:
        return Operation(
            new_token(),
            OperationKind.CREATE_ENI,
            now,
            security_groups=self._settings.security_groups,
            ipv4_count=1,
            ipv6_count=1 if self._settings.dual else 0,
            eni_kind=EniKind.EXCLUSIVE,
        )

    def _refused_with(self, now: float) -> Rejection | None:
        """The last one that keeps such a pod waiting: what shared ENIs were refused says nothing of it."""
        about = {of_uplink(own.eni.eni_id) for own in self._own()}
        kinds = _OF_CREATION if self._room() else frozenset()
        found = [r for scope, r in self._rejections.all(now).items() if scope in about or scope.kind in kinds]
        return found[-1] if found else None

    def _exhausted(self) -> PoolExhausted:
        now, book = self._journal.now(), self._journal.book
        rejection = self._refused_with(now)
        if rejection is not None:
            return _rejected(rejection, now)
        there = sum(eni.state is not EniState.RELEASING for eni in book.enis.values())
        own = self._own()
        told = f"{there} of {self._settings.max_enis} ENIs for pods are there, {len(own)} of them pods' own"
        cooling = [
            book.usable_at(r) for o in own if o.is_idle for r in o.addresses if book.usable_at(r) > now
        ]
        if cooling:
            left = min(cooling) - now
            return PoolExhausted(
                f"no ENI is free for this pod alone: {told}, and one was given back a moment ago",
                cause=Cause.COOLING,
                remedy=f"nothing to do: it may be used in {left:.0f} s; the kubelet tries again",
                retry_after=left,
            )
        return PoolExhausted(
            f"no ENI is free for this pod alone: {told}",
            cause=Cause.POOL_LIMIT,
            remedy="end another pod of this node, have this one run elsewhere, or use a larger instance type",
        )


def _out_of_patience(request: AllocationRequest) -> PoolExhausted:
    """Nobody said no, and nothing came either."""
    return PoolExhausted(
        f"no ENI for pod {request.pod} alone has come from the cloud in {ACQUIRE_TIMEOUT:.0f} s",
        cause=Cause.TIMEOUT,
        remedy="see terwayd's log for the call that takes so long; the kubelet tries again",
    )


def _rejected(rejection: Rejection, now: float) -> PoolExhausted:
    error, left = rejection.error, max(0.0, rejection.until - now)
    remedy = f"{error.remedy}; " if error.remedy else ""
    return PoolExhausted(
        error.what, cause=error.cause, remedy=f"{remedy}next try in {left:.0f} s", retry_after=left
    )
