"""Which addresses and ENIs to give back. Pure: the book in, what to release out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from control.ipam import sizing
from control.ipam.book import Book
from control.model.ids import EniId
from control.model.policies import EniPolicy
from control.model.records import AddressRecord, AddressState, EniRecord, OperationKind


@dataclass(frozen=True, slots=True)
class Shed:
    kind: OperationKind
    """RELEASE_ADDRESSES or RELEASE_ENI."""
    eni_id: EniId
    addresses: tuple[AddressRecord, ...]


def shed(
    book: Book, sizes: sizing.PoolSizes, policy: EniPolicy, *, count: int, busy: Collection[EniId], now: float
) -> Iterator[Shed]:
    """What to give back so that ``count`` usable addresses fewer are there: whole ENIs where that fits.

    Under most_ips the emptiest ENI goes first (it is the one to get rid of), under least_ips the fullest. The
    book may change between two of them: each is made of it as it is then.
    """
    sign = 1 if policy is EniPolicy.MOST_IPS else -1
    order = sorted(book.serving(), key=lambda e: (sign * book.size_of(e.eni_id), e.eni_id))
    for eni in order:
        if count <= 0 or eni.eni_id in busy:
            continue
        ipv4 = list(book.usable(eni.eni_id, 4, now))
        if _is_idle(book, eni, now) and len(ipv4) <= count and sizes.min_pool < _usable(book, sizes, now):
            count -= len(ipv4)
            yield Shed(OperationKind.RELEASE_ENI, eni.eni_id, tuple(book.of_eni(eni.eni_id)))
            continue
        spare = [a for a in ipv4 if a != eni.primary_ip][: min(count, sizing.BATCH)]
        if spare:
            paired = list(book.usable(eni.eni_id, 6, now)) if sizes.dual else []
            count -= len(spare)
            gone = tuple(book.addresses[a] for a in (*spare, *paired[: len(spare)]))
            yield Shed(OperationKind.RELEASE_ADDRESSES, eni.eni_id, gone)


def lost(book: Book, eni: EniRecord, *, before: float) -> tuple[AddressRecord, ...]:
    """Frozen since ``before`` at least and held by nobody: they only take up room on their ENI."""
    return tuple(
        r
        for r in book.of_eni(eni.eni_id)
        if r.state is AddressState.FROZEN
        and r.owner is None
        and r.address not in book.held
        and r.since <= before
        and r.address != eni.primary_ip
    )


def _is_idle(book: Book, eni: EniRecord, now: float) -> bool:
    """Every address of it is usable: no pod has one, none cools and none is frozen."""
    records = list(book.of_eni(eni.eni_id))
    held = any(r.owner or r.address in book.held for r in records)
    usable = book.usable(eni.eni_id, 4, now)
    return not held and len(usable) == sum(1 for r in records if r.address.version == 4)


def _usable(book: Book, sizes: sizing.PoolSizes, now: float) -> int:
    total = 0
    for eni in book.serving():
        free = len(book.usable(eni.eni_id, 4, now))
        total += min(free, len(book.usable(eni.eni_id, 6, now))) if sizes.dual else free
    return total
