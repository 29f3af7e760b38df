"""Values as bytes of the fabric's maps."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from lab.fabric import rows
from lab.fabric.view import Subnet
from lab.spec import gateway_of


def test_an_ipv4_address_is_mapped_and_an_ipv6_address_is_itself() -> None:
    assert rows.packed(ip_address("10.0.0.1")) == ip_address("::ffff:10.0.0.1").packed
    assert rows.packed(ip_address("2001:db8::1")) == ip_address("2001:db8::1").packed


@pytest.mark.parametrize(
    ("network", "length"), [("0.0.0.0/0", 96), ("10.0.0.0/8", 104), ("::/0", 0), ("::/64", 64)]
)
def test_prefixes_are_counted_in_the_mapped_address(network: str, length: int) -> None:
    assert rows.prefix_length(ip_network(network)) == length


@pytest.mark.parametrize("length", [0, 1, 64, 96, 104, 128])
def test_a_mask_has_as_many_ones(length: int) -> None:
    bits = f"{int.from_bytes(rows.mask_bytes(length), 'big'):0128b}"
    assert bits == "1" * length + "0" * (128 - length)


def test_groups_are_bits_of_words() -> None:
    assert rows.group_words([0, 63, 64, 255], 4) == [1 << 63 | 1, 1, 0, 1 << 63]


def test_a_lease_is_of_the_vswitch_that_holds_the_address() -> None:
    nets = [ip_network(text) for text in ("2001:db8::/64", "10.0.0.0/20", "10.0.16.0/20")]
    subnets = [Subnet(net, gateway_of(net)) for net in nets]
    found = rows.lease(IPv4Address("10.0.16.5"), subnets)
    assert found is not None
    assert [str(IPv4Address(each)) for each in found] == ["10.0.16.5", "255.255.240.0", "10.0.31.253"]
    assert rows.lease(IPv4Address("10.0.32.5"), subnets) is None


@pytest.mark.parametrize("text", ["", "00:16:3e", "00:16:3e:00:00:00:00", "zz:16:3e:00:00:00"])
def test_a_mac_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        rows.mac_bytes(text)
