"""The port behind which each kind of uplink hands out what a pod needs: ``acquire(request) -> Reservation``.

One allocator per kind: addresses of shared ENIs, an ENI of the pod's own, a trunk's member, the node's
CIDR. The ledger's intent is recorded in the same step as the choice, so that what a Reservation names is
nobody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from control.model.ids import Address, AttachmentKey, EniId, PodKey
from control.model.modes import NetworkMode, Uplink, UplinkKind, shared_eni
from control.model.records import AttachmentRecord


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """What one interface of one pod asks for."""

    key: AttachmentKey
    pod: PodKey
    uid: str
    """Lets the pod have its last address back before the cooldown is over; "" if nobody said."""
    kind: UplinkKind = UplinkKind.SHARED_ENI
    mode: NetworkMode = NetworkMode.POLICY_ROUTE
    """For the record: by what the interface will be made."""
    ipv4: bool = True
    ipv6: bool = False
    netns: str = ""
    host_links: tuple[str, ...] = ("",)
    """Names for its link on the host, best first: the first is taken that no other interface has. One empty
    name in a mode without such a link."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What was chosen: by which uplink the pod leaves the node, and with which addresses."""

    uplink: Uplink
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None = None

    @property
    def eni_id(self) -> EniId:
        return self.uplink.id

    def addresses(self) -> tuple[Address, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


class Reservation(Protocol):
    """An allocation that the ledger knows as an intent, until it is committed or released."""

    @property
    def record(self) -> AttachmentRecord:
        """Its uplink, addresses and mode as the ledger has them."""
        ...

    def commit(self, *, replaces: Sequence[AttachmentRecord] = ()) -> None:
        """The pod is served. ``replaces``: its older sandboxes, whose place it takes. Raises LedgerError."""
        ...

    def release(self) -> None:
        """Given up unused. Raises LedgerError; the intent stays then, and a later round ends it."""
        ...


class Allocator(Protocol):
    """What a node has of one kind of uplink."""

    async def acquire(self, request: AllocationRequest) -> Reservation:
        """Now, or when the cloud has brought more. Raises PoolExhausted with the cause and the next try.

        Cancelling gives up the place in the queue, and what was reserved in the same moment.
        """
        ...

    def kick(self) -> None:
        """Something may have been given back: serve who waits, start what is missing. Harmless to repeat."""
        ...

    def sync(self) -> None:
        """Once per pool period: ``kick``, and give back to the cloud what is too much."""
        ...

    async def close(self) -> None:
        """The daemon ends: who waits is told so, and nothing is begun any more."""
        ...


def allocation(eni_id: EniId, ipv4: Address | None, ipv6: Address | None) -> Allocation:
    """Addresses of a shared ENI."""
    return Allocation(
        shared_eni(eni_id),
        ipv4 if isinstance(ipv4, IPv4Address) else None,
        ipv6 if isinstance(ipv6, IPv6Address) else None,
    )
