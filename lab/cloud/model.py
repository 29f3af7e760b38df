"""Values of the cloud: network interfaces and instances as immutable snapshots.

Every change makes a new value; ``lab.cloud.history`` remembers since when each was true.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


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
