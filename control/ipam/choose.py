"""Which shared ENI and which addresses a pod gets. Pure: book and time in, an allocation or None out."""

from __future__ import annotations

from collections.abc import Iterable

from control.ipam.allocator import Allocation, AllocationRequest, allocation
from control.ipam.book import Book
from control.model.ids import Address, EniId
from control.model.policies import EniPolicy
from control.model.records import AddressState, EniRecord


def choose(
    book: Book, request: AllocationRequest, enis: Iterable[EniRecord], *, now: float, policy: EniPolicy
) -> Allocation | None:
    """The pod's own last addresses if they are still free, else the longest free of one of ``enis``.

    ``enis`` are those that a pod may be put on now. Both families come from the same ENI. ``most_ips``
    fills the ENI that already has the most addresses, so that others empty and can be released;
    ``least_ips`` spreads.
    """
    enis = tuple(enis)
    back = _own_again(book, request, {eni.eni_id for eni in enis})
    if back is not None:
        return back
    best: tuple[int, EniId] | None = None
    for eni in enis:
        if request.ipv4 and not book.usable(eni.eni_id, 4, now):
            continue
        if request.ipv6 and not book.usable(eni.eni_id, 6, now):
            continue
        size = book.size_of(eni.eni_id)
        rank = (size if policy is EniPolicy.MOST_IPS else -size, eni.eni_id)
        if best is None or rank > best:
            best = rank
    if best is None:
        return None
    eni_id = best[1]
    ipv4 = next(iter(book.usable(eni_id, 4, now))) if request.ipv4 else None
    ipv6 = next(iter(book.usable(eni_id, 6, now))) if request.ipv6 else None
    return allocation(eni_id, ipv4, ipv6)


def _own_again(book: Book, request: AllocationRequest, enis: set[EniId]) -> Allocation | None:
    """Free addresses whose last holder was this very pod (same uid), whether or not they have cooled."""
    if not request.uid:
        return None
    found: dict[tuple[EniId, int], Address] = {}
    for address in book.last_of(request.uid):
        record = book.addresses[address]
        free = record.state is AddressState.FREE and address not in book.held
        if free and record.eni_id in enis:
            found[(record.eni_id, address.version)] = address
    for eni_id in {key[0] for key in found}:
        ipv4 = found.get((eni_id, 4)) if request.ipv4 else None
        ipv6 = found.get((eni_id, 6)) if request.ipv6 else None
        if (ipv4 is not None or not request.ipv4) and (ipv6 is not None or not request.ipv6):
            return allocation(eni_id, ipv4, ipv6)
    return None
