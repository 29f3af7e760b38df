"""Which paths there are to try: every pair of places, by kind, protocol and family. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


class Where(StrEnum):
    POD = "pod"
    NODE = "node"
    OUTSIDE = "outside"


class Kind(StrEnum):
    """Words of the JSON report."""

    SAME_NODE = "pod-pod-same-node"
    OTHER_NODE = "pod-pod-other-node"
    HOST_POD = "host-pod"
    POD_HOST = "pod-host"
    OUTSIDE = "pod-outside"


class Protocol(StrEnum):
    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to send from and to. ``netns`` is an open file descriptor; ``node`` "" for the outside."""

    name: str
    where: Where
    node: str
    netns: int
    addresses: tuple[Address, ...]

    def address(self, family: int) -> Address | None:
        return next((a for a in self.addresses if a.version == family), None)


@dataclass(frozen=True, slots=True)
class Cell:
    source: Place
    target: Place
    kind: Kind
    protocol: Protocol
    family: int

    @property
    def forwarded_by(self) -> str:
        """The pod's node whose stack must forward it, "" if it begins or ends in that node's own stack."""
        pod = self.source if self.source.where is Where.POD else self.target
        other = self.target if pod is self.source else self.source
        return "" if other.where is Where.NODE and other.node == pod.node else pod.node

    @property
    def watched_node(self) -> str:
        return self.source.node if self.source.where is Where.POD else self.target.node


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed`` names the sizes that did not come back whole; ``path`` is what the node's counters say."""

    cell: Cell
    path: str
    failed: tuple[str, ...] = ()
    errors: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.failed


def kind_of(source: Place, target: Place) -> Kind | None:
    match source.where, target.where:
        case Where.POD, Where.POD:
            return Kind.SAME_NODE if source.node == target.node else Kind.OTHER_NODE
        case Where.NODE, Where.POD:
            return Kind.HOST_POD
        case Where.POD, Where.NODE:
            return Kind.POD_HOST
        case Where.POD, Where.OUTSIDE:
            return Kind.OUTSIDE
    return None


def cells(places: Sequence[Place], families: Sequence[int]) -> Iterator[Cell]:
    for source in places:
        for target in places:
            kind = kind_of(source, target)
            if source is target or kind is None:
                continue
            for family in families:
                if source.address(family) is None or target.address(family) is None:
                    continue
                for protocol in Protocol:
                    yield Cell(source, target, kind, protocol, family)
