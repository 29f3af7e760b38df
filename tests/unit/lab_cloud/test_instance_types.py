"""The table of limits, against published values and live answers."""

from __future__ import annotations

import pytest

from lab.cloud.instance_types import INSTANCE_TYPES, instance_type


@pytest.mark.parametrize(
    ("name", "cores", "memory", "eni", "ipv4", "ipv6"),
    [
        ("ecs.g7.xlarge", 4, 16, 4, 15, 15),
        ("ecs.g7.32xlarge", 128, 512, 15, 30, 30),
        ("ecs.c7.large", 2, 4, 3, 6, 6),
        ("ecs.c7.4xlarge", 16, 32, 8, 30, 30),
        ("ecs.g6.13xlarge", 52, 192, 7, 20, 1),
        ("ecs.g6.26xlarge", 104, 384, 15, 20, 1),
        ("ecs.c6.3xlarge", 12, 24, 6, 10, 1),
        ("ecs.c6.26xlarge", 104, 192, 15, 20, 1),
    ],
)
def test_published(name: str, cores: int, memory: float, eni: int, ipv4: int, ipv6: int) -> None:
    kind = instance_type(name)
    assert (kind.cores, kind.memory_gib) == (cores, memory)
    assert (kind.eni, kind.ipv4_per_eni, kind.ipv6_per_eni) == (eni, ipv4, ipv6)


@pytest.mark.parametrize(
    ("name", "kbits", "pps", "connections", "queues"),
    [
        ("ecs.g7.large", 2_048_000, 1_100_000, 500_000, 2),
        ("ecs.c7.3xlarge", 8_192_000, 2_400_000, 500_000, 8),
        ("ecs.g7.32xlarge", 65_536_000, 24_000_000, 2_400_000, 32),
        ("ecs.g6.large", 1_024_000, 300_000, 250_000, 2),
        ("ecs.c6.2xlarge", 2_560_000, 800_000, 250_000, 8),
        ("ecs.g6.26xlarge", 25_600_000, 6_000_000, 1_800_000, 32),
    ],
)
def test_published_network_performance(
    name: str, kbits: int, pps: int, connections: int, queues: int
) -> None:
    """The baseline of the pages on instance families, in the API's unit: 1,024,000 kbit/s is one Gbit/s."""
    kind = instance_type(name)
    assert (kind.bandwidth_kbits, kind.packets_per_second) == (kbits, pps)
    assert (kind.connections, kind.queues) == (connections, queues)


def test_the_api_references_sample_of_queues() -> None:
    kind = instance_type("ecs.g6.large")
    assert (kind.queues, kind.queues * kind.eni) == (2, 4)


def test_the_live_answer_for_trunk_members() -> None:
    kind = instance_type("ecs.g7.xlarge")
    assert (kind.eni_total, kind.trunk, kind.eri) == (20, True, 0)
    assert not instance_type("ecs.g6.large").trunk


def test_every_type_is_sound() -> None:
    assert len(INSTANCE_TYPES) == 36
    for kind in INSTANCE_TYPES.values():
        assert kind.eni_total >= kind.eni >= 2
        assert kind.trunk == (kind.eni_total > kind.eni)


def test_one_has_two_hundred_addresses_for_pods() -> None:
    kind = instance_type("ecs.g7.4xlarge")
    assert (kind.eni - 1) * kind.ipv4_per_eni == 210


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(ValueError, match=r"ecs\.none.*ecs\.g7\.large"):
        instance_type("ecs.none")
