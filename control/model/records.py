"""What the ledger remembers: ENIs, addresses, attachments and the operations that are under way.

Four kinds of row and nothing derived from them. Whether a free address may be handed out, for instance,
is computed from ``AddressRecord.since`` and the cooldown, so that no timer has to write it down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from control.model.ids import (
    Address,
    AttachmentKey,
    ClientToken,
    EniId,
    Mac,
    PodKey,
    SecurityGroupId,
    VSwitchId,
)
from control.model.modes import EniKind, NetworkMode, Uplink


class EniState(StrEnum):
    ATTACHING = "attaching"
    """Exists in the cloud; not yet seen by cloud, metadata and kernel alike, so nothing of it is served."""
    SERVING = "serving"
    FROZEN = "frozen"
    """A witness lost it. Pods keep what they have; nothing new is handed out."""
    RELEASING = "releasing"
    """Being detached and deleted. Never goes back."""


class AddressState(StrEnum):
    FREE = "free"
    """Nobody's. Usable when ``since`` plus the cooldown is past, or at once if it was never used."""
    ASSIGNED = "assigned"
    FROZEN = "frozen"
    """The cloud no longer shows it (or never did). Not handed out; unassigned once nobody holds it."""
    RELEASING = "releasing"
    """Being unassigned. Never goes back."""


class AttachmentState(StrEnum):
    ADDING = "adding"
    """Intent: kernel objects may exist in part. The runtime has had no answer."""
    READY = "ready"
    DELETING = "deleting"
    """Intent: kernel objects may be gone in part."""
    LOST = "lost"
    """The node was rebooted: the sandbox and its kernel objects are gone, the address waits for the pod."""


class OperationKind(StrEnum):
    CREATE_ENI = "create_eni"
    """Create, attach, wait for three witnesses. ``eni_id`` is None until the cloud has answered."""
    ASSIGN = "assign"
    """More addresses on an ENI that serves: ``ipv4_count`` and ``ipv6_count``."""
    RELEASE_ADDRESSES = "release_addresses"
    RELEASE_ENI = "release_eni"


@dataclass(frozen=True, slots=True)
class EniRecord:
    eni_id: EniId
    mac: Mac
    vswitch_id: VSwitchId
    primary_ip: IPv4Address
    state: EniState
    since: float
    cidr: IPv4Network | None = None
    """vSwitch CIDR; None until metadata has told."""
    gateway: IPv4Address | None = None
    cidr_v6: IPv6Network | None = None
    gateway_v6: IPv6Address | None = None
    reason: str = ""
    """Why it is frozen."""
    kind: EniKind = EniKind.SECONDARY
    parent: EniId | None = None
    """The trunk of a member; None for what hangs on the instance itself."""
    vlan: int = 0
    """VLAN of a member on its trunk; 0 for what has none."""
    security_groups: tuple[SecurityGroupId, ...] = ()
    """As it was made or adopted; empty if nobody has said."""


@dataclass(frozen=True, slots=True)
class AddressRecord:
    address: Address
    eni_id: EniId
    state: AddressState
    since: float
    """When it entered the state; 0 for a free address that no pod has had."""
    owner: AttachmentKey | None = None
    last_uid: str = ""
    """Uid of the last pod that had it: that pod may have it back before the cooldown is over."""
    prefix: IPv4Network | IPv6Network | None = None
    """The block that the cloud has given the ENI and that the address lies in; None for a single address."""


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    key: AttachmentKey
    pod: PodKey
    uid: str
    netns: str
    """Path the runtime gave; "" if it gave none."""
    host_link: str
    """Name of its link on the host; "" in a mode that has none."""
    uplink: Uplink
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    state: AttachmentState
    since: float
    mode: NetworkMode = NetworkMode.POLICY_ROUTE
    """The mode that made it, whatever the node's configuration says by now."""

    @property
    def eni_id(self) -> EniId:
        return self.uplink.id

    def addresses(self) -> tuple[Address, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


@dataclass(frozen=True, slots=True)
class Operation:
    """One intent towards the cloud. ``token`` names it and makes its writes idempotent."""

    token: ClientToken
    kind: OperationKind
    since: float
    eni_id: EniId | None = None
    vswitch_id: VSwitchId | None = None
    security_groups: tuple[SecurityGroupId, ...] = ()
    ipv4_count: int = 0
    ipv6_count: int = 0
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """One transaction: rows put (inserted or replaced by key) and rows dropped."""

    enis: tuple[EniRecord, ...] = ()
    addresses: tuple[AddressRecord, ...] = ()
    attachments: tuple[AttachmentRecord, ...] = ()
    operations: tuple[Operation, ...] = ()
    gone_enis: tuple[EniId, ...] = ()
    gone_addresses: tuple[Address, ...] = ()
    gone_attachments: tuple[AttachmentKey, ...] = ()
    gone_operations: tuple[ClientToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All rows, as read at start."""

    enis: tuple[EniRecord, ...] = ()
    addresses: tuple[AddressRecord, ...] = ()
    attachments: tuple[AttachmentRecord, ...] = ()
    operations: tuple[Operation, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


class Ledger(Protocol):
    """Where the records outlive the daemon. A failed write raises LedgerError and changes nothing."""

    def load(self) -> Snapshot: ...
    def write(self, changes: Changes) -> None:
        """All or nothing, durable against a crash of the process when it returns."""
        ...

    def remember(self, fact: str, value: str) -> None:
        """A single named value, e.g. the boot id or the instance's limits."""
        ...

    def close(self) -> None: ...
