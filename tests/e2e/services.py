"""What a node does for services, host ports and the way out, as values. Written by nft or by iptables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from datapath.netlink.wire import Network

Address = IPv4Address | IPv6Address

PORT, TARGET = 80, 8080
"""Of a service, and of whatever is behind a service or a host port."""
PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class Service:
    """``node_port`` 0: none. ``local``: externalTrafficPolicy Local, and the backend is on this node."""

    name: str
    vip: Address
    backend: Address
    node_port: int = 0
    local: bool = False


@dataclass(frozen=True, slots=True)
class HostPort:
    port: int
    backend: Address


@dataclass(frozen=True, slots=True)
class NodeRules:
    """All of one node, of one IP version. ``masqueraded``: where pods' packets go with the node's address."""

    version: int
    pods: Network
    services: Sequence[Service] = ()
    host_ports: Sequence[HostPort] = ()
    masqueraded: Network | None = None


def joined(address: Address, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
