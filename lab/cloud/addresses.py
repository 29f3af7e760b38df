"""The free addresses of one vSwitch CIDR, for one family.

The VPC keeps the first and the last three addresses of an IPv4 vSwitch, and the first and the last nine of
an IPv6 one, for itself (gateway, DHCP, DNS). Those are never given out.
An address that was given back is given again only when no other is left, and then the oldest first,
so that a late packet or a stale cache does not meet a new owner.

A prefix (/28 of IPv4, /80 of IPv6) is an aligned block of the CIDR in which nothing is in use or reserved. So
a vSwitch with many free addresses may have no block left: one address in use, or kept by the VPC, spoils its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Generic, TypeVar, cast

from lab.cloud.model import Address, Network

A = TypeVar("A", IPv4Address, IPv6Address)

_RESERVED_AT_END = {4: 3, 6: 9}
BLOCK_LENGTH = {4: 28, 6: 80}
"""Documented: the page on IP prefixes allows these lengths and no others."""


class AddressPool(Generic[A]):
    """Takes and gives back addresses by their offset in the CIDR; an IPv6 /64 costs nothing up front."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self.network = network
        self._base = int(network.network_address)
        self._last = network.num_addresses - 1 - _RESERVED_AT_END[network.version]
        self._never_used = 1
        self._returned: dict[int, None] = {}
        self._in_use: set[int] = set()
        self._block_size = 1 << network.max_prefixlen - BLOCK_LENGTH[network.version]
        self._blocks: set[int] = set()
        """Numbers of the blocks that are given as prefixes; none of their addresses is in ``_in_use``."""
        self._returned_blocks: dict[int, None] = {}

    @property
    def available(self) -> int:
        return self._last - len(self._in_use) - self._block_size * len(self._blocks)

    def contains(self, address: Address) -> bool:
        """True for an address of this CIDR that an ENI may have."""
        return address in self.network and 1 <= int(address) - self._base <= self._last

    def is_free(self, address: Address) -> bool:
        offset = int(address) - self._base
        return self.contains(address) and offset not in self._in_use and not self._in_block(offset)

    def contains_block(self, block: Network) -> bool:
        """True for a prefix of this CIDR that an ENI may have: neither end of it is the VPC's own."""
        return block.prefixlen == BLOCK_LENGTH[self.network.version] and (
            self.contains(block[0]) and self.contains(block[-1])
        )

    def is_free_block(self, block: Network) -> bool:
        return self.contains_block(block) and self._number(block) not in self._spoilt()

    def free_blocks(self, most: int) -> list[Network]:
        """The first ``most`` free prefixes in the order in which they are given, fewer if there are fewer."""
        spoilt = self._spoilt()
        found: list[int] = []
        for number in range(1, max(1, self.network.num_addresses // self._block_size - 1)):
            if len(found) == most:
                return [self._block(n) for n in found]
            if number not in spoilt and number not in self._returned_blocks:
                found.append(number)
        found += [n for n in self._returned_blocks if n not in spoilt]
        return [self._block(n) for n in found[:most]]

    def take_blocks(self, blocks: Sequence[Network]) -> None:
        """Those and no others, which the caller has checked with ``is_free_block``."""
        for block in blocks:
            number = self._number(block)
            self._blocks.add(number)
            self._returned_blocks.pop(number, None)
            for offset in [o for o in self._returned if o // self._block_size == number]:
                del self._returned[offset]

    def give_back_block(self, block: Network) -> None:
        """Nothing happens to a prefix that was not taken."""
        number = self._number(block)
        if number in self._blocks:
            self._blocks.remove(number)
            self._returned_blocks[number] = None

    def take(self, count: int) -> list[A]:
        """``count`` addresses, or ValueError and none taken if there are fewer."""
        if count > self.available:
            raise ValueError(f"{self.network} has {self.available} free addresses, asked for {count}")
        return [self._claim(self._next_offset()) for _ in range(count)]

    def take_exactly(self, addresses: Sequence[Address]) -> None:
        """Those and no others, which the caller has checked with ``is_free``."""
        for address in addresses:
            self._claim(int(address) - self._base)

    def give_back(self, address: Address) -> None:
        """Nothing happens to an address that was not taken."""
        offset = int(address) - self._base
        if offset in self._in_use:
            self._in_use.remove(offset)
            self._returned[offset] = None

    def _next_offset(self) -> int:
        while self._never_used <= self._last:
            offset = self._never_used
            self._never_used += 1
            number = offset // self._block_size
            if number in self._blocks:
                self._never_used = (number + 1) * self._block_size
            elif (
                offset not in self._in_use
                and offset not in self._returned
                and number not in self._returned_blocks
            ):
                return offset
        return next(iter(self._returned), None) or self._of_a_returned_block()

    def _of_a_returned_block(self) -> int:
        """The first free address of the block that was given back first; those before it are in use."""
        for number in self._returned_blocks:
            for offset in range(number * self._block_size, (number + 1) * self._block_size):
                if offset not in self._in_use and 1 <= offset <= self._last:
                    return offset
        raise AssertionError(f"{self.network}: {self.available} addresses are counted as free, none is")

    def _in_block(self, offset: int) -> bool:
        return offset // self._block_size in self._blocks

    def _spoilt(self) -> set[int]:
        """Blocks that cannot be given: taken, or with an address in use. The ends of the CIDR are apart."""
        return self._blocks | {offset // self._block_size for offset in self._in_use}

    def _number(self, block: Network) -> int:
        return (int(block.network_address) - self._base) // self._block_size

    def _block(self, number: int) -> Network:
        start = self.network[number * self._block_size]
        return ip_network((int(start), BLOCK_LENGTH[self.network.version]))

    def _claim(self, offset: int) -> A:
        self._returned.pop(offset, None)
        self._in_use.add(offset)
        return cast(A, self.network[offset])
