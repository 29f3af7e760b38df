"""ENIs of a pod's own: which are idle, and for whom. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from control.ipam.allocator import AllocationRequest
from control.ipam.book import Book
from control.model.modes import EniKind
from control.model.records import AddressRecord, AddressState, EniRecord


@dataclass(frozen=True, slots=True)
class OwnEni:
    """One that serves, with its addresses, the primary one first."""

    eni: EniRecord
    addresses: tuple[AddressRecord, ...]
    held: bool
    """A running pod has it that the ledger does not know."""

    @property
    def is_idle(self) -> bool:
        """Nobody's. What was frozen is not handed out, nor the ENI with it."""
        return not self.held and all(r.state is AddressState.FREE for r in self.addresses)

    @property
    def ipv4(self) -> IPv4Address:
        return self.eni.primary_ip

    def ipv6_of(self, request: AllocationRequest) -> IPv6Address | None:
        if not request.ipv6:
            return None
        return next((r.address for r in self.addresses if isinstance(r.address, IPv6Address)), None)

    def was_of(self, uid: str) -> bool:
        return bool(uid) and any(r.last_uid == uid for r in self.addresses)

    def serves(self, request: AllocationRequest, book: Book, now: float) -> bool:
        """Idle, of the families asked for, and cooled unless it was this very pod's."""
        cooled = self.was_of(request.uid) or all(book.usable_at(r) <= now for r in self.addresses)
        complete = not request.ipv6 or self.ipv6_of(request) is not None
        return self.is_idle and cooled and complete


def own_enis(book: Book) -> list[OwnEni]:
    """Those that serve, whoever has them."""
    found = []
    for eni in book.serving(EniKind.EXCLUSIVE):
        records = sorted(book.of_eni(eni.eni_id), key=lambda r: r.address != eni.primary_ip)
        if records and records[0].address == eni.primary_ip:
            held = any(r.address in book.held for r in records)
            found.append(OwnEni(eni, tuple(records), held))
    return found
