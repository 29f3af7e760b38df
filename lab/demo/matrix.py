"""Which paths there are to try. Pure.

Every pair of places is tried with common packets, by each protocol and family. What a fast path leaves to the
stack, or has to pass on with care, is tried on one pair of each relation: it depends on how two places lie to
each other, not on which two they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address
FAMILIES = (4, 6)


class Where(StrEnum):
    POD = "pod"
    NODE = "node"
    OUTSIDE = "outside"


class Kind(StrEnum):
    """Words of the JSON report. The first five are relations of two places too."""

    SAME_NODE = "pod-pod-same-node"
    OTHER_NODE = "pod-pod-other-node"
    OUTSIDE = "pod-outside"
    HOST_POD = "host-pod"
    POD_HOST = "pod-host"

    PMTU = "pmtu"
    ICMP_ERROR = "icmp-error"
    FRAGMENTS = "fragments"
    OPTIONS = "ip-options"


class Protocol(StrEnum):
    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"


class Path(StrEnum):
    """What carried the packets of a cell, by the counters of the pods' nodes. Words of the JSON report."""

    EBPF = "ebpf"
    STACK = "stack"
    BOTH = "ebpf+stack"
    UNSEEN = "unseen"
    """Neither counted them, or only some of them."""


POD_TO_POD = (Kind.SAME_NODE, Kind.OTHER_NODE)
RELATIONS = (*POD_TO_POD, Kind.OUTSIDE, Kind.HOST_POD, Kind.POD_HOST)


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
    """``between`` is how the two places lie to each other; for common packets it is the kind."""

    source: Place
    target: Place
    kind: Kind
    protocol: Protocol
    family: int
    between: Kind

    @property
    def pods(self) -> tuple[Place, ...]:
        return tuple(p for p in (self.source, self.target) if p.where is Where.POD)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The pods' nodes, whose business it is to carry the packets."""
        return tuple(dict.fromkeys(p.node for p in self.pods))

    @property
    def ends_on_own_host(self) -> bool:
        """One end is the stack of the pod's node, which delivers then and does not forward."""
        return any(p.where is Where.NODE and p.node in self.nodes for p in (self.source, self.target))

    @property
    def is_common(self) -> bool:
        return self.kind is self.between


@dataclass(frozen=True, slots=True)
class Packets:
    """Of one cell: those its pods sent by the fast path, and forwardings by the stacks of their nodes."""

    ebpf: int = 0
    forwarded: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed`` names what did not come back as it should, ``errors`` says of each why."""

    cell: Cell
    path: Path
    failed: tuple[str, ...] = ()
    errors: tuple[str, ...] = field(default=())
    packets: Packets = Packets()

    @property
    def ok(self) -> bool:
        return not self.failed


_UNUSUAL = {
    Kind.PMTU: (Protocol.TCP, Protocol.UDP),
    Kind.ICMP_ERROR: (Protocol.ICMP, Protocol.UDP),
    Kind.FRAGMENTS: (Protocol.ICMP, Protocol.UDP),
    Kind.OPTIONS: (Protocol.ICMP, Protocol.TCP, Protocol.UDP),
}


def relation_of(source: Place, target: Place) -> Kind | None:
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


def cells(places: Sequence[Place]) -> list[Cell]:
    """All there are. Those of the fast path first: a flow that the stack began stays with the stack."""
    return [*_common(places), *_unusual(places)]


def _common(places: Sequence[Place]) -> Iterator[Cell]:
    for relation in RELATIONS:
        for source, target in _pairs(places, relation):
            for family in _families(source, target):
                for protocol in Protocol:
                    yield Cell(source, target, relation, protocol, family, relation)


def _unusual(places: Sequence[Place]) -> Iterator[Cell]:
    for kind, protocols in _UNUSUAL.items():
        for relation in RELATIONS:
            for source, target in _pairs(places, relation)[:1]:
                for family in _families(source, target):
                    for protocol in protocols:
                        cell = Cell(source, target, kind, protocol, family, relation)
                        if _makes_sense(cell):
                            yield cell


def _makes_sense(cell: Cell) -> bool:
    """Between a pod and its host there is no hop. A small next hop is put behind pods and the outside."""
    if cell.between is Kind.HOST_POD:
        return False
    if cell.between is Kind.POD_HOST:
        return cell.kind is not Kind.PMTU and (cell.kind, cell.protocol) != (Kind.ICMP_ERROR, Protocol.ICMP)
    return True


def _pairs(places: Sequence[Place], relation: Kind) -> list[tuple[Place, Place]]:
    return [(s, t) for s in places for t in places if s is not t and relation_of(s, t) is relation]


def _families(source: Place, target: Place) -> list[int]:
    return [f for f in FAMILIES if source.address(f) is not None and target.address(f) is not None]
