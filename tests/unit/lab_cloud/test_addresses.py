"""The pool of a vSwitch CIDR: what is never given, and what is given last."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from lab.cloud.addresses import AddressPool


def test_the_cloud_keeps_the_first_and_the_last_three() -> None:
    pool: AddressPool[IPv4Address] = AddressPool(IPv4Network("10.1.0.0/28"))
    assert pool.available == 12
    assert [str(address) for address in pool.take(12)] == [f"10.1.0.{n}" for n in range(1, 13)]
    with pytest.raises(ValueError, match="0 free addresses"):
        pool.take(1)
    for kept in ("10.1.0.0", "10.1.0.13", "10.1.0.14", "10.1.0.15", "10.2.0.1"):
        assert not pool.contains(IPv4Address(kept))


def test_the_gateway_of_an_ipv6_vswitch_is_never_given() -> None:
    pool: AddressPool[IPv6Address] = AddressPool(IPv6Network("2001:db8::/64"))
    assert pool.available == 2**64 - 10
    assert not pool.contains(IPv6Address("2001:db8::ffff:ffff:ffff:fffd"))
    assert pool.take(1) == [IPv6Address("2001:db8::1")]


def test_a_block_is_whole_and_holds_nothing_that_is_kept() -> None:
    """In a /26 the first and the last /28 hold addresses of the VPC's own."""
    pool: AddressPool[IPv4Address] = AddressPool(IPv4Network("10.1.0.0/26"))
    middle = [IPv4Network("10.1.0.16/28"), IPv4Network("10.1.0.32/28")]
    assert pool.free_blocks(9) == middle
    for kept in ("10.1.0.0/28", "10.1.0.48/28", "10.1.0.16/29", "10.1.1.0/28"):
        assert not pool.contains_block(IPv4Network(kept))
    pool.take_exactly([IPv4Address("10.1.0.31")])
    assert pool.free_blocks(9) == middle[1:]
    assert not pool.is_free_block(middle[0])
    before = pool.available
    pool.take_blocks(middle[1:])
    assert pool.available == before - 16
    assert pool.free_blocks(9) == []
    assert not pool.is_free(IPv4Address("10.1.0.40"))
    with pytest.raises(ValueError, match="free addresses"):
        pool.take(before - 15)


def test_blocks_of_an_ipv6_vswitch() -> None:
    pool: AddressPool[IPv6Address] = AddressPool(IPv6Network("2001:db8::/64"))
    first, second = pool.free_blocks(2)
    assert [str(first), str(second)] == ["2001:db8:0:0:1::/80", "2001:db8:0:0:2::/80"]
    pool.take_blocks([first])
    assert pool.available == 2**64 - 10 - 2**48
    pool.give_back_block(first)
    assert pool.free_blocks(1) == [second]
    assert pool.is_free_block(first)
    assert not pool.contains_block(IPv6Network("2001:db8:0:0:ffff::/80"))


def test_any_order_of_blocks_and_addresses_keeps_the_books() -> None:
    chance = random.Random(11)
    pool: AddressPool[IPv4Address] = AddressPool(IPv4Network("10.1.0.0/25"))
    total, held, blocks = pool.available, set[IPv4Address](), list[IPv4Network | IPv6Network]()
    for _ in range(3000):
        choice = chance.random()
        if choice < 0.2 and (free := pool.free_blocks(1)):
            assert not any(address in free[0] for address in held)
            pool.take_blocks(free)
            blocks += free
        elif choice < 0.4 and blocks:
            pool.give_back_block(blocks.pop(chance.randrange(len(blocks))))
        elif choice < 0.65 and held:
            address = chance.choice(sorted(held))
            held.remove(address)
            pool.give_back(address)
        elif pool.available:
            (address,) = pool.take(1)
            assert address not in held
            assert not any(address in block for block in blocks)
            held.add(address)
        assert pool.available == total - len(held) - 16 * len(blocks)
    assert len(set(blocks)) == len(blocks)


def test_any_order_of_take_and_give_back_keeps_the_books() -> None:
    """No address has two owners, and one given back comes again only after all that were never used."""
    chance = random.Random(7)
    pool: AddressPool[IPv4Address] = AddressPool(IPv4Network("10.1.0.0/26"))
    total, held = pool.available, set[IPv4Address]()
    ever: set[IPv4Address] = set()
    for _ in range(2000):
        if held and chance.random() < 0.5:
            address = chance.choice(sorted(held))
            held.remove(address)
            pool.give_back(address)
        elif chance.random() < 0.2:
            wanted = IPv4Address("10.1.0.0") + chance.randrange(1, 61)
            if pool.is_free(wanted):
                pool.take_exactly([wanted])
                held.add(wanted)
                ever.add(wanted)
        elif pool.available:
            (address,) = pool.take(1)
            assert address not in held
            assert address not in ever or len(ever) == total
            held.add(address)
            ever.add(address)
        assert pool.available == total - len(held)
