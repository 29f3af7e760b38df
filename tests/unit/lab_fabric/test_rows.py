"""Values as bytes of the fabric's maps."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from lab.fabric import rows


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


@pytest.mark.parametrize("text", ["", "00:16:3e", "00:16:3e:00:00:00:00", "zz:16:3e:00:00:00"])
def test_a_mac_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        rows.mac_bytes(text)
