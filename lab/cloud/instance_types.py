"""Limits of ECS instance types, as DescribeInstanceTypes answers them.

Published: vCPU, memory, ENIs, private IPv4 and IPv6 addresses per ENI are those of Alibaba Cloud's pages on
general-purpose and compute-optimized instance families (g7/c7 and g6/c6). ENIs count the primary one, and
addresses per ENI count the ENI's own primary address.
Derived: ``eni_total`` (ENIs plus trunk members) is on no page. Live answers say 20 for ecs.g7.xlarge and 60
for ecs.g6.16xlarge; the rule here (4 members per vCPU in the 7th generation, 1 in the 6th, at most 60 ENIs
in all) gives both. The API reference's sample has no trunk for ecs.g6.large; c6.large is taken to be alike.
``eri`` (elastic RDMA) is 0 in the live answer for g7, and taken to be so for all of these.
"""

from __future__ import annotations

from dataclasses import dataclass

_MOST_ENIS = 60


@dataclass(frozen=True, slots=True)
class InstanceType:
    name: str
    cores: int
    memory_gib: float
    eni: int
    ipv4_per_eni: int
    ipv6_per_eni: int
    eni_total: int
    trunk: bool
    eri: int = 0
    network_cards: int = 0
    """0 where the type has no choice of cards."""

    @property
    def family(self) -> str:
        return self.name.rpartition(".")[0]


_SEVENTH = (
    # size, vCPU, ENIs, IPv4 per ENI, IPv6 per ENI
    ("large", 2, 3, 6, 6),
    ("xlarge", 4, 4, 15, 15),
    ("2xlarge", 8, 4, 15, 15),
    ("3xlarge", 12, 8, 15, 15),
    ("4xlarge", 16, 8, 30, 30),
    ("6xlarge", 24, 8, 30, 30),
    ("8xlarge", 32, 8, 30, 30),
    ("16xlarge", 64, 8, 30, 30),
    ("32xlarge", 128, 15, 30, 30),
)
_SIXTH = (
    ("large", 2, 2, 6, 1),
    ("xlarge", 4, 3, 10, 1),
    ("2xlarge", 8, 4, 10, 1),
    ("3xlarge", 12, 6, 10, 1),
    ("4xlarge", 16, 8, 20, 1),
    ("6xlarge", 24, 8, 20, 1),
    ("8xlarge", 32, 8, 20, 1),
    ("13xlarge", 52, 7, 20, 1),
    ("26xlarge", 104, 15, 20, 1),
)
_MEMORY_OF_SIXTH = {"13xlarge": 48, "26xlarge": 96}
"""The vCPU that memory is reckoned by: these two have less of it per vCPU (192 and 384 GiB in g6)."""


def _seventh(family: str, gib_per_core: int) -> list[InstanceType]:
    return [
        InstanceType(
            name=f"{family}.{size}",
            cores=cores,
            memory_gib=cores * gib_per_core,
            eni=eni,
            ipv4_per_eni=ipv4,
            ipv6_per_eni=ipv6,
            eni_total=min(eni + 4 * cores, _MOST_ENIS),
            trunk=True,
        )
        for size, cores, eni, ipv4, ipv6 in _SEVENTH
    ]


def _sixth(family: str, gib_per_core: int) -> list[InstanceType]:
    return [
        InstanceType(
            name=f"{family}.{size}",
            cores=cores,
            memory_gib=_MEMORY_OF_SIXTH.get(size, cores) * gib_per_core,
            eni=eni,
            ipv4_per_eni=ipv4,
            ipv6_per_eni=ipv6,
            eni_total=eni if size == "large" else min(eni + cores, _MOST_ENIS),
            trunk=size != "large",
        )
        for size, cores, eni, ipv4, ipv6 in _SIXTH
    ]


INSTANCE_TYPES: dict[str, InstanceType] = {
    kind.name: kind
    for kind in (
        *_seventh("ecs.g7", 4),
        *_seventh("ecs.c7", 2),
        *_sixth("ecs.g6", 4),
        *_sixth("ecs.c6", 2),
    )
}


def instance_type(name: str) -> InstanceType:
    """Raises ValueError for a type the lab has no limits of, naming those it has."""
    try:
        return INSTANCE_TYPES[name]
    except KeyError:
        known = ", ".join(sorted(INSTANCE_TYPES))
        raise ValueError(f"instance type {name!r} is not in the lab's table; it has {known}") from None
