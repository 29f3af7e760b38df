"""Sets of addresses, for asking which packets a rule can mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datapath.netlink.wire import Address, Network

Span = tuple[int, int]
"""First and last address as integers, both in the set."""

BITS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Addresses:
    """A set of addresses of one IP version: spans in ascending order that neither overlap nor touch."""

    version: int
    spans: tuple[Span, ...]

    @staticmethod
    def everything(version: int) -> Addresses:
        return Addresses(version, ((0, _last(version)),))

    @staticmethod
    def between(version: int, first: int, last: int) -> Addresses:
        """Both ends belong to it; ends beyond what the version has are cut, and none may be left."""
        first, last = max(first, 0), min(last, _last(version))
        return Addresses(version, ((first, last),) if first <= last else ())

    @staticmethod
    def of(version: int, networks: Iterable[Network], hosts: Iterable[Address] = ()) -> Addresses:
        """The addresses of those networks that are of this version, and those of ``hosts`` that are."""
        spans = [
            (int(one.network_address), int(one.broadcast_address))
            for one in networks
            if one.version == version
        ]
        numbers = [int(one) for one in hosts if one.version == version]
        return Addresses(version, tuple(_joined([*spans, *zip(numbers, numbers, strict=True)])))

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __and__(self, other: Addresses) -> Addresses:
        spans = (
            (max(mine[0], its[0]), min(mine[1], its[1]))
            for mine in self.spans
            for its in other.spans
            if mine[0] <= its[1] and its[0] <= mine[1]
        )
        return Addresses(self.version, tuple(spans))

    def __sub__(self, other: Addresses) -> Addresses:
        return self & ~other

    def __invert__(self) -> Addresses:
        """All other addresses of the version."""
        spans = []
        start = 0
        for first, last in self.spans:
            if start < first:
                spans.append((start, first - 1))
            start = last + 1
        if start <= _last(self.version):
            spans.append((start, _last(self.version)))
        return Addresses(self.version, tuple(spans))


def _last(version: int) -> int:
    return (1 << BITS[version]) - 1


def _joined(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
