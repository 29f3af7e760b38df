"""Prefixes of an ENI: which blocks a call gets, and when it gets none.

Documented (ECS's page on IP prefixes): the lengths /28 and /80, a prefix lies in the ENI's vSwitch, is a
standard CIDR and overlaps no other prefix or address; it counts as one address against the limits of the
instance type (49 and the primary one for an ENI that is not attached).
Inferred: InvalidVSwitchId.IpNotEnough if there are addresses enough but no block, with a message that says
so, as the reference has no code of its own; an IPv4 prefix is 16 addresses of the vSwitch's count and of
the VPC's.
Not modelled: reserved CIDR blocks of a vSwitch, which the page wants prefixes to come from. Here all of a
vSwitch serves, as upstream's documents on prefix mode describe it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.cloud import errors
from lab.cloud.addresses import BLOCK_LENGTH
from lab.cloud.model import Address, Network
from lab.cloud.resources import AnyPool, Resources

PREFIX_SIZE = 16
"""IPv4 addresses in one prefix."""


@dataclass(frozen=True, slots=True)
class PrefixAsk:
    """Either ``prefixes`` by name, or ``count`` of them that the cloud chooses, of one family."""

    version: int
    count: int = 0
    prefixes: tuple[Network, ...] = ()

    @property
    def total(self) -> int:
        return self.count + len(self.prefixes)

    def at_most(self, limit: int | None) -> PrefixAsk:
        """The same with a smaller ``count``, which is how a partial success comes about."""
        return self if limit is None else replace(self, count=min(self.count, limit))


def choose(
    resources: Resources, vswitch_id: str, ask: PrefixAsk, *, beside: Sequence[Address] = ()
) -> tuple[Network, ...]:
    """The blocks that ``ask`` gets, which are still free: nothing is taken.

    ``beside`` are addresses that the same call takes. Raises the code that says what is wrong with a block,
    or InvalidVSwitchId.IpNotEnough.
    """
    if not ask.total:
        return ()
    pools = resources.pools[vswitch_id]
    pool = pools.v4 if ask.version == 4 else pools.v6
    if pool is None:
        raise errors.ipv6_not_on(vswitch_id)
    _check(pool, vswitch_id, ask.prefixes, beside)
    found = pool.free_blocks(ask.count + len(beside)) if ask.count else []
    chosen = [block for block in found if not any(address in block for address in beside)][: ask.count]
    if len(chosen) < ask.count:
        raise errors.no_block(vswitch_id, BLOCK_LENGTH[ask.version])
    return (*ask.prefixes, *chosen)


def take(resources: Resources, vswitch_id: str, blocks: Sequence[Network]) -> None:
    """Take what ``choose`` chose."""
    for block in blocks:
        pool = resources.pools[vswitch_id].of(block)
        if pool is not None:
            pool.take_blocks([block])
    resources.count_available(vswitch_id)


def _check(pool: AnyPool, vswitch_id: str, blocks: Sequence[Network], beside: Sequence[Address]) -> None:
    """Each once, in the vSwitch and free."""
    seen: set[Network] = set()
    for block in blocks:
        if block in seen:
            raise errors.address_repeated(str(block))
        if not pool.contains_block(block):
            raise errors.address_not_in_vswitch(str(block), vswitch_id)
        if not pool.is_free_block(block) or any(address in block for address in beside):
            raise errors.address_taken(str(block))
        seen.add(block)
