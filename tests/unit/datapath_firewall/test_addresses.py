"""Sets of addresses, against sets of numbers."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, ip_network

import pytest

from datapath.firewall.addresses import Addresses

BASE = 0x0A000000
SMALL = range(64)


def members(found: Addresses) -> set[int]:
    return {offset for offset in SMALL for first, last in found.spans if first <= BASE + offset <= last}


def some(chance: random.Random) -> Addresses:
    networks = []
    for _ in range(chance.randrange(4)):
        length = chance.choice([26, 27, 28, 30, 31, 32])
        start = BASE + (chance.randrange(64) >> 32 - length << 32 - length)
        networks.append(IPv4Network((start, length)))
    return Addresses.of(4, networks)


@pytest.mark.parametrize("seed", range(40))
def test_like_sets_of_numbers(seed: int) -> None:
    chance = random.Random(seed)
    one, other = some(chance), some(chance)
    assert members(one & other) == members(one) & members(other)
    assert members(one - other) == members(one) - members(other)
    assert members(~one) == set(SMALL) - members(one)
    assert one.count == len(members(one))
    assert bool(one) == bool(members(one))
    assert ~~one == one


def test_both_ends_of_the_world() -> None:
    for version, bits in ((4, 32), (6, 128)):
        everything = Addresses.everything(version)
        assert everything.count == 1 << bits
        assert not ~everything
        assert ~~everything == everything
        assert Addresses.between(version, -5, 1 << 130) == everything
        assert not Addresses.between(version, 9, 8)


def test_networks_of_the_version_only_and_joined() -> None:
    networks = [ip_network(text) for text in ("10.0.1.0/24", "2001:db8::/64", "10.0.0.0/24", "10.0.1.7/32")]
    assert Addresses.of(4, networks) == Addresses.of(4, [ip_network("10.0.0.0/23")])
    assert Addresses.of(6, networks).count == 1 << 64
