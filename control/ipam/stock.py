"""What the book amounts to: how many addresses could be handed out, and which could be given back. Pure.

Counts are of IPv4 addresses, or of pairs in dual stack, where an address without a partner serves nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from control.ipam import sizing
from control.ipam.book import Book
from control.model.ids import EniId
from control.model.policies import EniPolicy
from control.model.records import AddressRecord, AddressState, EniRecord, EniState, Operation, OperationKind

GROWS = frozenset({OperationKind.CREATE_ENI, OperationKind.ASSIGN})


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The same for CLI, metrics and tests."""

    capacity: int
    total: int
    in_use: int
    idle: int
    """Usable now."""
    cooling: int
    frozen: int
    releasing: int
    coming: int
    waiting: int
    held: int = 0
    """In use by running pods that the ledger does not know."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """What has been refused a moment ago and is not to be asked for."""

    eni: Callable[[EniRecord], bool]
    creation: bool
    most: Callable[[EniRecord], int]
    """Addresses that a call for the ENI may ask for."""
    create_most: int


def brings(operation: Operation) -> int:
    """Addresses (pairs) that an operation under way will add."""
    return max(operation.ipv4_count, operation.ipv6_count) if operation.kind in GROWS else 0


class Stock:
    """``under_way`` of the methods are the operations that somebody works on now."""

    def __init__(self, book: Book, sizes: sizing.PoolSizes) -> None:
        self._book = book
        self._sizes = sizes

    def usable(self, now: float) -> int:
        total = 0
        for eni in self._book.serving():
            free = len(self._book.usable(eni.eni_id, 4, now))
            if self._sizes.dual:
                free = min(free, len(self._book.usable(eni.eni_id, 6, now)))
            total += free
        return total

    def cooling(self, now: float) -> list[AddressRecord]:
        """IPv4 addresses of serving ENIs that will be usable by themselves, the next one first."""
        serving = {e.eni_id for e in self._book.serving()}
        return [r for r in self._book.cooling(now) if r.address.version == 4 and r.eni_id in serving]

    def stats(self, now: float, under_way: Collection[Operation], *, waiting: int) -> PoolStats:
        serving = {e.eni_id for e in self._book.serving()}
        counts: dict[AddressState, int] = dict.fromkeys(AddressState, 0)
        for r in self._book.addresses.values():
            if r.address.version == 4:
                stuck = r.state is AddressState.FREE and r.eni_id not in serving
                counts[AddressState.FROZEN if stuck else r.state] += 1
        return PoolStats(
            capacity=self._sizes.capacity,
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

    # Growing.

    def view(
        self, now: float, under_way: Collection[Operation], refusals: Refusals, *, waiting: int
    ) -> sizing.PoolView:
        """The pool for ``sizing.grow``: what is on the way counts as there."""
        pending: dict[EniId, Operation] = {}
        nameless: list[Operation] = []
        for operation in under_way:
            if operation.kind in GROWS:
                eni_id = operation.eni_id or self._created(operation)
                if eni_id is None:
                    nameless.append(operation)
                else:
                    pending[eni_id] = operation
        busy = {o.eni_id for o in under_way} | set(pending)
        enis = [sizing.EniView(EniId(o.token), o.ipv4_count, o.ipv6_count, busy=True) for o in nameless]
        for eni in self._book.enis.values():
            if eni.state is EniState.RELEASING:
                continue
            unseen = eni.state is not EniState.SERVING and eni.eni_id not in pending
            v4, v6 = self._sizes_of(eni.eni_id, pending.get(eni.eni_id))
            blocked = unseen or refusals.eni(eni)
            enis.append(sizing.EniView(eni.eni_id, v4, v6, eni.eni_id in busy, blocked, refusals.most(eni)))
        return sizing.PoolView(
            enis=tuple(enis),
            leaving=sum(1 for e in self._book.enis.values() if e.state is EniState.RELEASING),
            usable=self.usable(now),
            coming=sum(map(brings, under_way)),
            waiting=waiting,
            create_blocked=refusals.creation,
            create_most=refusals.create_most,
        )

    def _sizes_of(self, eni_id: EniId, operation: Operation | None) -> tuple[int, int]:
        families = [r.address.version for r in self._book.of_eni(eni_id)]
        more = (operation.ipv4_count, operation.ipv6_count) if operation else (0, 0)
        return families.count(4) + more[0], families.count(6) + more[1]

    def _created(self, operation: Operation) -> EniId | None:
        """The ledger may know by now what the operation as it was begun did not."""
        recorded = self._book.operations.get(operation.token)
        return recorded.eni_id if recorded is not None else None

    # Shrinking.

    def shed(
        self, now: float, count: int, policy: EniPolicy, *, busy: Collection[EniId | None]
    ) -> Iterator[tuple[OperationKind, EniId, list[AddressRecord]]]:
        """What to give back so that ``count`` usable addresses fewer are there: whole ENIs where that fits.

        Under most_ips the emptiest ENI goes first (it is the one to get rid of), under least_ips the fullest.
        """
        sign = 1 if policy is EniPolicy.MOST_IPS else -1
        order = sorted(self._book.serving(), key=lambda e: (sign * self._book.size_of(e.eni_id), e.eni_id))
        for eni in order:
            if count <= 0 or eni.eni_id in busy:
                continue
            records = list(self._book.of_eni(eni.eni_id))
            ipv4 = list(self._book.usable(eni.eni_id, 4, now))
            held = any(r.owner or r.address in self._book.held for r in records)
            everything = len(ipv4) == sum(1 for r in records if r.address.version == 4)
            if everything and not held and len(ipv4) <= count and self._sizes.min_pool < self.usable(now):
                count -= len(ipv4)
                yield OperationKind.RELEASE_ENI, eni.eni_id, records
                continue
            spare = [a for a in ipv4 if a != eni.primary_ip][: min(count, sizing.BATCH)]
            if spare:
                paired = list(self._book.usable(eni.eni_id, 6, now)) if self._sizes.dual else []
                count -= len(spare)
                gone = [self._book.addresses[a] for a in (*spare, *paired[: len(spare)])]
                yield OperationKind.RELEASE_ADDRESSES, eni.eni_id, gone

    def lost(self, eni: EniRecord, *, before: float) -> list[AddressRecord]:
        """Frozen since ``before`` at least and held by nobody: they only take up room on their ENI."""
        return [
            r
            for r in self._book.of_eni(eni.eni_id)
            if r.state is AddressState.FROZEN
            and r.owner is None
            and r.address not in self._book.held
            and r.since <= before
            and r.address != eni.primary_ip
        ]
