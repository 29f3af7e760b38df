"""What the agent needs of the cloud: values, and the two ports that bring them.

Source of the fields: the ECS OpenAPI 2014-05-26 and the instance metadata service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from control.model.ids import Address, ClientToken, EniId, InstanceId, Mac, SecurityGroupId, VSwitchId


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """What one instance type may have. Counts of ENIs include the primary one.

    ``ipv4_per_eni`` counts the ENI's own primary address too, which is given to a pod on secondary ENIs.
    """

    instance_type: str
    eni_quantity: int
    ipv4_per_eni: int
    ipv6_per_eni: int
    eni_total_quantity: int
    trunk_supported: bool


class EniStatus(StrEnum):
    """Status words of DescribeNetworkInterfaces."""

    CREATING = "Creating"
    AVAILABLE = "Available"
    ATTACHING = "Attaching"
    IN_USE = "InUse"
    DETACHING = "Detaching"
    DELETING = "Deleting"
    LINKED = "Linked"
    UNLINKING = "Unlinking"
    OTHER = ""


class EniType(StrEnum):
    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    TRUNK = "Trunk"
    MEMBER = "Member"


@dataclass(frozen=True, slots=True)
class Eni:
    """One elastic network interface as an OpenAPI answer shows it; ``ipv4`` includes ``primary_ip``."""

    eni_id: EniId
    mac: Mac
    vswitch_id: VSwitchId
    primary_ip: IPv4Address
    ipv4: tuple[IPv4Address, ...]
    ipv6: tuple[IPv6Address, ...] = ()
    status: EniStatus = EniStatus.OTHER
    eni_type: EniType = EniType.SECONDARY
    instance_id: InstanceId | None = None
    security_groups: tuple[SecurityGroupId, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    def addresses(self) -> frozenset[Address]:
        return frozenset(self.ipv4) | frozenset(self.ipv6)


@dataclass(frozen=True, slots=True)
class VSwitch:
    vswitch_id: VSwitchId
    zone: str
    cidr: IPv4Network
    available: int
    """Free IPv4 addresses, as of the cloud's last count."""
    cidr_v6: IPv6Network | None = None


@dataclass(frozen=True, slots=True)
class CreateEni:
    """One CreateNetworkInterface. ``ipv4_count`` >= 1 includes the primary address."""

    vswitch_id: VSwitchId
    security_groups: tuple[SecurityGroupId, ...]
    ipv4_count: int
    ipv6_count: int
    token: ClientToken
    tags: tuple[tuple[str, str], ...] = ()
    resource_group: str = ""
    description: str = "interface create by terway"


class Cloud(Protocol):
    """The OpenAPI, one method per intent. Every failure is a CloudError. Safe to call concurrently.

    Writes with a token are idempotent: the same token and arguments give the first call's answer.
    ``detach_eni`` and ``delete_eni`` of what is already gone succeed, and so does an unassign of an
    address that is not assigned.
    """

    async def instance_limits(self, instance_type: str) -> InstanceLimits: ...
    async def vswitches(self, ids: Sequence[VSwitchId]) -> tuple[VSwitch, ...]: ...
    async def create_eni(self, request: CreateEni) -> Eni: ...
    async def attach_eni(self, eni_id: EniId, instance_id: InstanceId) -> None: ...
    async def detach_eni(self, eni_id: EniId, instance_id: InstanceId) -> None: ...
    async def delete_eni(self, eni_id: EniId) -> None: ...
    async def enis_of_instance(self, instance_id: InstanceId) -> tuple[Eni, ...]: ...
    async def enis_tagged(self, tags: Sequence[tuple[str, str]]) -> tuple[Eni, ...]:
        """Those that have all of ``tags``, attached or not."""
        ...

    async def enis(self, ids: Sequence[EniId]) -> tuple[Eni, ...]:
        """Those of ``ids`` that exist; an unknown id is left out, not an error."""
        ...

    async def assign_ipv4(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv4Address, ...]:
        """``count`` 1..10. The cloud may give fewer than asked for; it never gives none without an error."""
        ...

    async def assign_ipv6(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv6Address, ...]: ...
    async def unassign_ipv4(self, eni_id: EniId, addresses: Sequence[IPv4Address]) -> None: ...
    async def unassign_ipv6(self, eni_id: EniId, addresses: Sequence[IPv6Address]) -> None: ...

    def stand_by(self, wanted: bool) -> None:
        """``wanted``: keep what a call needs warm, since the next pod will need one. Never blocks."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    instance_id: InstanceId
    instance_type: str
    region: str
    zone: str
    vswitch_id: VSwitchId
    mac: Mac
    """Of the primary ENI."""


@dataclass(frozen=True, slots=True)
class MetadataEni:
    """One ``network/interfaces/macs/<mac>/`` of the metadata service."""

    eni_id: EniId
    mac: Mac
    primary_ip: IPv4Address
    ipv4: frozenset[IPv4Address]
    cidr: IPv4Network
    """vSwitch CIDR block."""
    gateway: IPv4Address
    vswitch_id: VSwitchId
    ipv6: frozenset[IPv6Address] = field(default_factory=frozenset)
    cidr_v6: IPv6Network | None = None
    gateway_v6: IPv6Address | None = None


class Metadata(Protocol):
    """The instance metadata service. Every failure is a MetadataError."""

    async def identity(self) -> NodeIdentity: ...
    async def macs(self) -> frozenset[Mac]:
        """MACs of all attached ENIs, the primary one included."""
        ...

    async def eni(self, mac: Mac, *, ipv6: bool) -> MetadataEni | None:
        """None while the service does not (or no longer) list ``mac``. ``ipv6`` False reads no v6 paths."""
        ...

    async def addresses(self, mac: Mac) -> frozenset[IPv4Address]:
        """Private IPv4 addresses of one ENI; empty if the service does not list ``mac``."""
        ...

    async def addresses_v6(self, mac: Mac) -> frozenset[IPv6Address]: ...
