"""Limits of ECS instance types, as DescribeInstanceTypes answers them.

Published: vCPU, memory, ENIs, private IPv4 and IPv6 addresses per ENI, network bandwidth, packet rate,
connections and NIC queues are those of Alibaba Cloud's pages on general-purpose and compute-optimized
instance families (g7/c7 and g6/c6). ENIs count the primary one, and addresses per ENI count the ENI's own
primary address. Bandwidth is the baseline and not the burst: the API reference's sample says 1024000 kbit/s
for ecs.g6.large (1 Gbit/s, bursts to 3) and 20480000 for ecs.g6.16xlarge. In the same samples every ENI has
as many queues as the page says, and the instance as many as all its ENIs together (ecs.g6.large: 2 and 4).
Derived: ``eni_total`` (ENIs plus trunk members) is on no page. Live answers say 20 for ecs.g7.xlarge and 60
for ecs.g6.16xlarge; the rule here (4 members per vCPU in the 7th generation, 1 in the 6th, at most 60 ENIs
in all) gives both. The API reference's sample has no trunk for ecs.g6.large; c6.large is taken to be alike.
``eri`` (elastic RDMA) is 0 in the live answer for g7, and taken to be so for all of these.
``network_cards`` is 0 in a live answer for a type of another family (t6); types with several cards are GPU
and bare metal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

_MOST_ENIS = 60
_KBITS_OF_A_GBIT = 1_024_000


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
    gbits: float
    """Baseline bandwidth of the network, each way, in Gbit/s as the pages have it."""
    packets_per_second: int
    """Each way."""
    connections: int
    queues: int
    """Of every ENI."""
    eri: int = 0
    network_cards: int = 0
    """0 where the type has no choice of cards."""

    @property
    def family(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def category(self) -> str:
        """InstanceCategory: what the letter of the family stands for."""
        return "General-purpose" if self.family.startswith("ecs.g") else "Compute-optimized"

    @property
    def bandwidth_kbits(self) -> int:
        """In the unit of InstanceBandwidthRx and of the metadata service."""
        return int(self.gbits * _KBITS_OF_A_GBIT)


_Row = tuple[str, int, int, int, int, float, int, int, int]

_SEVENTH: tuple[_Row, ...] = (
    # size, vCPU, ENIs, IPv4 per ENI, IPv6 per ENI, Gbit/s, packets/s, connections, queues
    ("large", 2, 3, 6, 6, 2.0, 1_100_000, 500_000, 2),
    ("xlarge", 4, 4, 15, 15, 3.0, 1_100_000, 500_000, 4),
    ("2xlarge", 8, 4, 15, 15, 5.0, 1_600_000, 500_000, 8),
    ("3xlarge", 12, 8, 15, 15, 8.0, 2_400_000, 500_000, 8),
    ("4xlarge", 16, 8, 30, 30, 10.0, 3_000_000, 500_000, 8),
    ("6xlarge", 24, 8, 30, 30, 12.0, 4_500_000, 550_000, 12),
    ("8xlarge", 32, 8, 30, 30, 16.0, 6_000_000, 600_000, 16),
    ("16xlarge", 64, 8, 30, 30, 32.0, 12_000_000, 1_200_000, 32),
    ("32xlarge", 128, 15, 30, 30, 64.0, 24_000_000, 2_400_000, 32),
)
_SIXTH: tuple[_Row, ...] = (
    ("large", 2, 2, 6, 1, 1.0, 300_000, 250_000, 2),
    ("xlarge", 4, 3, 10, 1, 1.5, 500_000, 250_000, 4),
    ("2xlarge", 8, 4, 10, 1, 2.5, 800_000, 250_000, 8),
    ("3xlarge", 12, 6, 10, 1, 4.0, 900_000, 250_000, 8),
    ("4xlarge", 16, 8, 20, 1, 5.0, 1_000_000, 300_000, 8),
    ("6xlarge", 24, 8, 20, 1, 7.5, 1_500_000, 450_000, 12),
    ("8xlarge", 32, 8, 20, 1, 10.0, 2_000_000, 600_000, 16),
    ("13xlarge", 52, 7, 20, 1, 12.5, 3_000_000, 900_000, 32),
    ("26xlarge", 104, 15, 20, 1, 25.0, 6_000_000, 1_800_000, 32),
)
_MEMORY_OF_SIXTH = {"13xlarge": 48, "26xlarge": 96}
"""The vCPU that memory is reckoned by: these two have less of it per vCPU (192 and 384 GiB in g6)."""


def _seventh(family: str, gib_per_core: int) -> list[InstanceType]:
    return [_of(row, family, row[1] * gib_per_core, members=4 * row[1], trunk=True) for row in _SEVENTH]


def _sixth(family: str, gib_per_core: int) -> list[InstanceType]:
    return [
        _of(
            row,
            family,
            _MEMORY_OF_SIXTH.get(row[0], row[1]) * gib_per_core,
            members=0 if row[0] == "large" else row[1],
            trunk=row[0] != "large",
        )
        for row in _SIXTH
    ]


def _of(row: _Row, family: str, memory_gib: float, *, members: int, trunk: bool) -> InstanceType:
    """The type of a row. ``members``: how many a trunk would have if ``_MOST_ENIS`` were no bound."""
    size, cores, eni, ipv4, ipv6, gbits, packets, connections, queues = row
    return InstanceType(
        name=f"{family}.{size}",
        cores=cores,
        memory_gib=memory_gib,
        eni=eni,
        ipv4_per_eni=ipv4,
        ipv6_per_eni=ipv6,
        eni_total=min(eni + members, _MOST_ENIS),
        trunk=trunk,
        gbits=gbits,
        packets_per_second=packets,
        connections=connections,
        queues=queues,
    )


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
