"""What the book amounts to: how many addresses could be handed out, and the pool as growth sees it. Pure.

Counts are of IPv4 addresses, or of pairs in dual stack, where an address without a partner serves nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from control.ipam import sizing
from control.ipam.book import Book
from control.ipam.rejections import (
    CREATION,
    EVERYTHING,
    SECURITY_GROUP,
    Rejections,
    of_eni,
    of_uplink,
    of_vswitch,
)
from control.model.ids import EniId
from control.model.modes import EniKind
from control.model.records import AddressRecord, AddressState, EniRecord, EniState, Operation, OperationKind

GROWS = frozenset({OperationKind.CREATE_ENI, OperationKind.ASSIGN})


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The same for CLI, metrics and tests."""

    capacity: int
    """Addresses that shared ENIs may have, those left out that are a pod's own."""
    total: int
    in_use: int
    idle: int
    """Usable now."""
    cooling: int
    frozen: int
    """Addresses that a source of truth lost, and those of ENIs that serve nobody new at the moment."""
    releasing: int
    coming: int
    waiting: int
    held: int = 0
    """In use by running pods that the ledger does not know."""


def brings(operation: Operation) -> int:
    """Addresses (pairs) that an operation under way will add to those that pods share."""
    shared = operation.kind in GROWS and operation.eni_kind is EniKind.SECONDARY
    return max(operation.ipv4_count, operation.ipv6_count) if shared else 0


class PoolStatistics:
    """``under_way`` of the methods are the operations that somebody works on now."""

    def __init__(self, book: Book, sizes: sizing.PoolSizes, rejections: Rejections) -> None:
        self._book = book
        self._sizes = sizes
        self._rejections = rejections

    def serving(self, now: float) -> Iterator[EniRecord]:
        """ENIs that a pod may be put on now: not those on which the last one's packets went astray."""
        for eni in self._book.serving():
            if not self._rejections.held_off(now, of_uplink(eni.eni_id)):
                yield eni

    def usable(self, now: float) -> int:
        total = 0
        for eni in self.serving(now):
            free = len(self._book.usable(eni.eni_id, 4, now))
            if self._sizes.dual:
                free = min(free, len(self._book.usable(eni.eni_id, 6, now)))
            total += free
        return total

    def cooling(self, now: float) -> list[AddressRecord]:
        """IPv4 addresses of serving ENIs that will be usable by themselves, the next one first."""
        serving = {e.eni_id for e in self.serving(now)}
        return [r for r in self._book.cooling(now) if r.address.version == 4 and r.eni_id in serving]

    def stats(self, now: float, under_way: Collection[Operation], *, waiting: int) -> PoolStats:
        serving = {e.eni_id for e in self.serving(now)}
        counts: dict[AddressState, int] = dict.fromkeys(AddressState, 0)
        others = {e.eni_id for e in self._book.enis.values() if e.kind is not EniKind.SECONDARY}
        for r in self._book.addresses.values():
            if r.address.version == 4 and r.eni_id not in others:
                stuck = r.state is AddressState.FREE and r.eni_id not in serving
                counts[AddressState.FROZEN if stuck else r.state] += 1
        return PoolStats(
            capacity=max(0, self._sizes.max_enis - len(others)) * self._sizes.per_eni,
            total=sum(counts.values()),
            in_use=counts[AddressState.ASSIGNED],
            idle=self.usable(now),
            cooling=len(self.cooling(now)),
            frozen=counts[AddressState.FROZEN],
            releasing=counts[AddressState.RELEASING],
            coming=sum(map(brings, under_way)),
            waiting=waiting,
            held=sum(1 for a in self._book.held if a.version == 4),
        )

    def view(self, now: float, under_way: Collection[Operation], *, waiting: int) -> sizing.PoolView:
        """The pool for ``sizing.grow``: what is on the way counts as there."""
        pending, nameless = self._growing(under_way)
        busy = {o.eni_id for o in under_way} | set(pending)
        enis = [
            sizing.EniView(
                EniId(o.token),
                o.ipv4_count,
                o.ipv6_count,
                busy=True,
                blocked=o.eni_kind is not EniKind.SECONDARY,
            )
            for o in nameless
        ]
        for eni in self._book.enis.values():
            if eni.state is EniState.RELEASING:
                continue
            unseen = eni.state is not EniState.SERVING and eni.eni_id not in pending
            v4, v6 = self._sizes_of(eni.eni_id, pending.get(eni.eni_id))
            blocked = unseen or eni.kind is not EniKind.SECONDARY or self._held_off(eni, now)
            enis.append(sizing.EniView(eni.eni_id, v4, v6, eni.eni_id in busy, blocked, self._most(eni, now)))
        return sizing.PoolView(
            enis=tuple(enis),
            leaving=sum(1 for e in self._book.enis.values() if e.state is EniState.RELEASING),
            usable=self.usable(now),
            coming=sum(map(brings, under_way)),
            waiting=waiting,
            create_blocked=self._rejections.held_off(now, EVERYTHING, CREATION),
            create_most=self._rejections.batch_limit(now, CREATION, SECURITY_GROUP),
        )

    def _held_off(self, eni: EniRecord, now: float) -> bool:
        scopes = (EVERYTHING, of_eni(eni.eni_id), of_vswitch(eni.vswitch_id), of_uplink(eni.eni_id))
        return self._rejections.held_off(now, *scopes)

    def _most(self, eni: EniRecord, now: float) -> int:
        scopes = (of_eni(eni.eni_id), of_vswitch(eni.vswitch_id), SECURITY_GROUP)
        return self._rejections.batch_limit(now, *scopes)

    def _growing(self, under_way: Collection[Operation]) -> tuple[dict[EniId, Operation], list[Operation]]:
        """Operations that add addresses: by ENI, and those whose ENI the cloud has not named yet."""
        pending: dict[EniId, Operation] = {}
        nameless: list[Operation] = []
        for operation in under_way:
            if operation.kind in GROWS:
                eni_id = operation.eni_id or self._created(operation)
                if eni_id is None:
                    nameless.append(operation)
                else:
                    pending[eni_id] = operation
        return pending, nameless

    def _sizes_of(self, eni_id: EniId, operation: Operation | None) -> tuple[int, int]:
        more = (operation.ipv4_count, operation.ipv6_count) if operation else (0, 0)
        return self._book.count(eni_id, 4) + more[0], self._book.count(eni_id, 6) + more[1]

    def _created(self, operation: Operation) -> EniId | None:
        """The ledger may know by now what the operation as it was begun did not."""
        recorded = self._book.operations.get(operation.token)
        return recorded.eni_id if recorded is not None else None
