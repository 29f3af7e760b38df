"""The free addresses of one vSwitch CIDR, for one family.

The VPC keeps the first and the last three addresses of an IPv4 vSwitch, and the first and the last nine of
an IPv6 one, for itself (gateway, DHCP, DNS). Those are never given out.
An address that was given back is given again only when no other is left, and then the oldest first,
so that a late packet or a stale cache does not meet a new owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Generic, TypeVar, cast

from lab.cloud.model import Address

A = TypeVar("A", IPv4Address, IPv6Address)

_RESERVED_AT_END = {4: 3, 6: 9}


class AddressPool(Generic[A]):
    """Takes and gives back addresses by their offset in the CIDR; an IPv6 /64 costs nothing up front."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self.network = network
        self._base = int(network.network_address)
        self._last = network.num_addresses - 1 - _RESERVED_AT_END[network.version]
        self._never_used = 1
        self._returned: dict[int, None] = {}
        self._in_use: set[int] = set()

    @property
    def available(self) -> int:
        return self._last - len(self._in_use)

    def contains(self, address: Address) -> bool:
        """True for an address of this CIDR that an ENI may have."""
        return address in self.network and 1 <= int(address) - self._base <= self._last

    def is_free(self, address: Address) -> bool:
        return self.contains(address) and int(address) - self._base not in self._in_use

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
            if offset not in self._in_use and offset not in self._returned:
                return offset
        return next(iter(self._returned))

    def _claim(self, offset: int) -> A:
        self._returned.pop(offset, None)
        self._in_use.add(offset)
        return cast(A, self.network[offset])
