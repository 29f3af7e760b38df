"""Which block of addresses is what, and whose: pure, from a view to one longest-prefix match.

A block is a vSwitch, an ENI's prefix, the destination of a route entry, or the VPC. The longest one that
holds an address decides, and an address that is assigned by itself is asked of none of them.

A vSwitch has a system route of its own, which is longer than any entry that may hold it (CreateRouteEntry
refuses a destination inside a vSwitch). The VPC itself has none: what lies in it and in no vSwitch goes
where an entry around the VPC leads.

Documented (Alibaba Cloud's page on route tables): one system route per vSwitch and one for 100.64.0.0/10,
and that the longest prefix wins. Inferred: that a next hop may send from what an entry leads to it, as
upstream's VPC mode has no other way to work; that nobody else may, the outside included; that an entry whose
next hop is away drops; that the next hop of 0.0.0.0/0 sends out by itself, as an instance with a public
address does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from lab.fabric.errors import ViewError
from lab.fabric.view import FabricView, Network, Route


class BlockKind(StrEnum):
    VPC = "vpc"
    ON_LINK = "on_link"
    """In a vSwitch: the gateway answers ARP and ND for it."""
    ROUTED = "routed"
    ELSEWHERE = "elsewhere"
    """All of IPv4, if no entry leads it: in the tables it lies inside IPv6, whose entries end here."""
    DEFAULT = "default"
    """Everything else: such an entry does not make the rest of the world a part of the VPC."""


_ALL_IPV4 = IPv4Network("0.0.0.0/0")
MAPPED = IPv6Network("::ffff:0:0/96")
"""What the tables write IPv4 as (RFC 4291, 2.5.5.2); no block of IPv6 may lie there."""


@dataclass(frozen=True, slots=True)
class Block:
    """``port_id`` has the addresses of the block that are nobody's own; "" is no port."""

    kind: BlockKind
    port_id: str = ""


def blocks(view: FabricView) -> dict[Network, Block]:
    """Each block once. Raises ViewError for two route entries with one destination, or one in ``MAPPED``."""
    routes = {route.destination: route for route in view.routes}
    if len(routes) != len(view.routes):
        raise ViewError(f"two route entries have one destination: {sorted(str(r) for r in routes)}")
    if wrong := sorted(str(cidr) for cidr in routes if holds(MAPPED, cidr)):
        raise ViewError(f"route entries to IPv4 in IPv6: {wrong}")
    found: dict[Network, Block] = {_ALL_IPV4: Block(BlockKind.ELSEWHERE)}
    found |= {cidr: Block(BlockKind.VPC, _around(cidr, view.routes)) for cidr in view.vpc}
    for destination, route in routes.items():
        found[destination] = Block(_kind(destination, view.vpc), route.port_id)
    found |= {subnet.cidr: Block(BlockKind.ON_LINK) for subnet in view.subnets}
    for port in view.ports:
        found |= {prefix: Block(BlockKind.ON_LINK, port.port_id) for prefix in port.prefixes}
    return found


def _kind(destination: Network, vpc: Iterable[Network]) -> BlockKind:
    if destination.prefixlen == 0:
        return BlockKind.DEFAULT
    return BlockKind.VPC if any(holds(cidr, destination) for cidr in vpc) else BlockKind.ROUTED


def _around(cidr: Network, routes: Iterable[Route]) -> str:
    """Where the longest entry around ``cidr`` leads; the entry for everything else is none."""
    holding = [r for r in routes if r.destination.prefixlen and holds(r.destination, cidr)]
    return max(holding, key=lambda r: r.destination.prefixlen).port_id if holding else ""


def holds(outer: Network, inner: Network) -> bool:
    """Whether all of ``inner`` lies in ``outer``, false across families."""
    return (
        outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )
