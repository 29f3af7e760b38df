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
