"""Which ENI and which addresses a pod gets. Pure: book and time in, a choice or None out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from control.ipam.book import Book
from control.model.ids import Address, EniId
from control.model.policies import EniPolicy
from control.model.records import AddressState, EniState


@dataclass(frozen=True, slots=True)
class Choice:
    eni_id: EniId
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None

    def addresses(self) -> tuple[Address, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


@dataclass(frozen=True, slots=True)
class Wants:
    """What one pod needs. ``uid`` lets it have its last address back before the cooldown is over."""

    uid: str
    ipv4: bool = True
    ipv6: bool = False


def choose(book: Book, wants: Wants, *, now: float, policy: EniPolicy) -> Choice | None:
    """The pod's own last addresses if they are still free, else the longest free of one serving ENI.

    Both families come from the same ENI. ``most_ips`` fills the ENI that already has the most addresses,
    so that others empty and can be released; ``least_ips`` spreads.
    """
    back = _own_again(book, wants)
    if back is not None:
        return back
    best: tuple[int, EniId] | None = None
    for eni in book.serving():
        if wants.ipv4 and not book.usable(eni.eni_id, 4, now):
            continue
        if wants.ipv6 and not book.usable(eni.eni_id, 6, now):
            continue
        size = book.size_of(eni.eni_id)
        rank = (size if policy is EniPolicy.MOST_IPS else -size, eni.eni_id)
        if best is None or rank > best:
            best = rank
    if best is None:
        return None
    eni_id = best[1]
    ipv4 = next(iter(book.usable(eni_id, 4, now))) if wants.ipv4 else None
    ipv6 = next(iter(book.usable(eni_id, 6, now))) if wants.ipv6 else None
    return _choice(eni_id, ipv4, ipv6)


def _choice(eni_id: EniId, ipv4: Address | None, ipv6: Address | None) -> Choice:
    return Choice(
        eni_id,
        ipv4 if isinstance(ipv4, IPv4Address) else None,
        ipv6 if isinstance(ipv6, IPv6Address) else None,
    )


def _own_again(book: Book, wants: Wants) -> Choice | None:
    """Free addresses whose last holder was this very pod (same uid), whether or not they have cooled."""
    if not wants.uid:
        return None
    mine = book.last_of(wants.uid)
    found: dict[tuple[EniId, int], Address] = {}
    for address in mine:
        record = book.addresses[address]
        eni = book.enis.get(record.eni_id)
        free = record.state is AddressState.FREE and address not in book.held
        if free and eni is not None and eni.state is EniState.SERVING:
            found[(record.eni_id, address.version)] = address
    for eni_id in {key[0] for key in found}:
        ipv4 = found.get((eni_id, 4)) if wants.ipv4 else None
        ipv6 = found.get((eni_id, 6)) if wants.ipv6 else None
        if (ipv4 is not None or not wants.ipv4) and (ipv6 is not None or not wants.ipv6):
            return _choice(eni_id, ipv4, ipv6)
    return None
