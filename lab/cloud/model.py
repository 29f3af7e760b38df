"""Values of the cloud: network interfaces and instances as immutable snapshots.

Every change makes a new value; ``lab.cloud.history`` remembers since when each was true.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class EniStatus(StrEnum):
    """Status words of DescribeNetworkInterfaces."""

    CREATING = "Creating"
    AVAILABLE = "Available"
    ATTACHING = "Attaching"
    IN_USE = "InUse"
    DETACHING = "Detaching"
    DELETING = "Deleting"


IN_TRANSITION = frozenset({EniStatus.CREATING, EniStatus.ATTACHING, EniStatus.DETACHING, EniStatus.DELETING})


class EniType(StrEnum):
    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    TRUNK = "Trunk"
    MEMBER = "Member"
    """A secondary ENI while it is attached to a trunk ENI, and only then."""


Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Eni:
    """One elastic network interface at one moment.

    ``ipv4`` starts with ``primary_ip``. ``instance_id`` is "" unless the ENI is bound to an instance,
    which it is from Attaching to the end of Detaching. ``created`` is a time of the lab's clock.
    ``trunk_id`` and ``vlan`` are those of a member, as long as it is bound.
    """

    eni_id: str
    mac: str
    eni_type: EniType
    vswitch_id: str
    zone: str
    status: EniStatus
    primary_ip: IPv4Address
    ipv4: tuple[IPv4Address, ...]
    ipv6: tuple[IPv6Address, ...]
    groups: tuple[str, ...]
    created: float
    instance_id: str = ""
    name: str = ""
    description: str = ""
    tags: Tags = ()
    delete_on_release: bool = True
    trunk_id: str = ""
    vlan: int = 0
    network_card: int | None = None
    """The card that AttachNetworkInterface named, if it did."""
    source_dest_check: bool = True
    resource_group_id: str = ""
    queue_number: int | None = None
    """None: as many as the instance type gives by itself."""
    prefixes: tuple[Network, ...] = ()
    """Blocks of both families, none of whose addresses is in ``ipv4`` or ``ipv6``."""

    @property
    def shown_type(self) -> EniType:
        """What answers call it."""
        return EniType.MEMBER if self.trunk_id else self.eni_type

    @property
    def attached(self) -> bool:
        """A device of its instance exists, or is on its way: from AttachNetworkInterface until Detach."""
        return self.instance_id != "" and self.status in (EniStatus.ATTACHING, EniStatus.IN_USE)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (*self.ipv4, *self.ipv6)

    def prefixes_of(self, version: int) -> tuple[Network, ...]:
        return tuple(prefix for prefix in self.prefixes if prefix.version == version)

    def slots(self, version: int) -> int:
        """How much of an ENI's limit is used: an address and a prefix count as one each (documented)."""
        return len(self.ipv4 if version == 4 else self.ipv6) + len(self.prefixes_of(version))

    def has(self, address: Address) -> bool:
        """By itself, or in a prefix."""
        return address in self.addresses or any(address in prefix for prefix in self.prefixes)


@dataclass(frozen=True, slots=True)
class Instance:
    """One ECS instance. ``name`` is the lab's node name, which is also its host name."""

    instance_id: str
    name: str
    instance_type: str
    zone: str
    vswitch_id: str
    groups: tuple[str, ...]
    ram_role: str
    primary_eni: str
    created: float
    tags: Tags = ()
