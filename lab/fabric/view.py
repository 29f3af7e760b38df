"""What the fabric should be, as values: the cloud computes it, ``lab.fabric`` makes it so.

Level-triggered: a view is complete, and applying it twice is applying it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lab.spec import SESSIONS, SecurityGroupSpec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class PortKind(StrEnum):
    ENI = "eni"
    """Bound by MAC, assigned addresses and security groups."""
    SERVICE = "service"
    """The cloud's own endpoints: any VPC address reaches them, whatever the groups say."""
    OUTSIDE = "outside"
    """Beyond the VPC: every address that is no one else's."""


@dataclass(frozen=True, slots=True)
class Port:
    """One device on the fabric. ``owner`` names the namespace it is plugged into (a node, cloud, outside).

    ``device`` is the name it gets there; "" lets the fabric take the next free ethN, as hot-plug does.
    With ``trunk``, the id of another port of the owner's, it has no device: its frames are those of that
    port's device with the tag ``vlan``, 1 to 4094. ``mac`` is what they have there.
    """

    port_id: str
    kind: PortKind
    owner: str
    mac: str
    addresses: frozenset[Address] = frozenset()
    prefixes: frozenset[Network] = frozenset()
    """Whole blocks that it has beside ``addresses``, each inside a subnet."""
    groups: frozenset[str] = frozenset()
    device: str = ""
    trunk: str = ""
    vlan: int = 0
    forwards: bool = False
    """Its SourceDestCheck is off: it sends from, and is routed, addresses that are not its own."""
    primary: IPv4Address | None = None
    """What DHCP tells an ENI; None: it gets no answer."""
    sessions: int = SESSIONS
    """How many its owner may have at once, all ENIs together: the word of the owner's first port counts."""


@dataclass(frozen=True, slots=True)
class Subnet:
    cidr: Network
    gateway: Address


@dataclass(frozen=True, slots=True)
class Route:
    """A custom route entry: ``port_id`` is its next hop, which drops everything while it has no port."""

    destination: Network
    port_id: str


@dataclass(frozen=True, slots=True)
class FabricView:
    ports: tuple[Port, ...]
    subnets: tuple[Subnet, ...]
    """The vSwitches: the fabric answers ARP and ND for every address in them."""
    vpc: tuple[Network, ...]
    """Inside these an unassigned destination is a drop; outside these it is the outside port's."""
    groups: tuple[SecurityGroupSpec, ...]
    mtu: int = 1500
    routes: tuple[Route, ...] = ()
    """Each destination once. A subnet wins over an entry that holds it, as its own route is longer."""
