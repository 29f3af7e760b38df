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
    made: float = 0.0
    """When its ADD began: from then on its addresses were its own. 0 if no ledger has it: it was rebuilt."""

    @property
    def eni_id(self) -> EniId:
        return self.uplink.id

    def addresses(self) -> tuple[Address, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


class Ended(StrEnum):
    """Why somebody no longer has an address."""

    DELETED = "deleted"
    """The runtime's DEL."""
    REPLACED = "replaced"
    """A newer sandbox of the same pod took its place."""
    FAILED = "failed"
    """Its ADD did not end well, or was cut off: no runtime was told of it."""
    COLLECTED = "collected"
    """Runtime or Kubernetes, and the kernel, no longer had it."""
    OUTDATED = "outdated"
    """The ledger was older than the node: the kernel showed the address at another sandbox."""


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """Who had an address, from when until when. One of each address of an attachment that has ended."""

    address: Address
    pod: PodKey
    uid: str
    key: AttachmentKey
    mode: NetworkMode
    eni_id: EniId
    since: float
    """0: before the ledger was rebuilt."""
    until: float
    ended: Ended


HISTORY_OF_POD = 8
"""Rows of one pod's name on one address: a pod whose sandboxes crash pushes out its own past alone."""
HISTORY_OF_ADDRESS = 32
"""Rows of one address: an address that is used often pushes out no other one's past."""
HISTORY_OF_FAILED = 4
"""Rows of one address of ADDs that failed: a node on which every ADD fails keeps who really had it."""
HISTORY_AT_MOST = 8192
"""Rows in all, 2 MB: ``HISTORY_OF_ADDRESS`` for each address of a node that has 256, as most types have."""
HISTORY_BATCH = 8
"""What is beyond a bound of one address goes with every eighth row of it, so that a DEL does not pay for it:
up to seven more are kept."""

Subject = Address | PodKey | EniId
"""Whose history is asked for."""


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
    eni_kind: EniKind = EniKind.SECONDARY
    """What a new ENI is for."""


@dataclass(frozen=True, slots=True)
class Changes:
    """One transaction: rows put (inserted or replaced by key) and rows dropped."""

    enis: tuple[EniRecord, ...] = ()
    addresses: tuple[AddressRecord, ...] = ()
    attachments: tuple[AttachmentRecord, ...] = ()
    operations: tuple[Operation, ...] = ()
    history: tuple[HistoryRecord, ...] = ()
    """Added to what there is, oldest first; the bounds let go of old ones."""
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

    def history(self, of: Subject) -> tuple[HistoryRecord, ...]:
        """What has ended, oldest first; empty for who is not known. Raises LedgerError."""
        ...

    def missing(self) -> str:
        """What is wrong with where it is kept, so that a later start would not find it; "" if nothing is.

        Cheap: it is asked every few seconds.
        """
        ...

    def make_private(self) -> tuple[str, ...]:
        """Take back what others may do with it; what that was, one line each."""
        ...

    def begin_anew(self, snapshot: Snapshot, *, aside: str = "") -> str:
        """Write ``snapshot`` as a new ledger, with the history that can still be read.

        What is where it is kept is set aside and not read again; ``aside`` names why, and if it is given the
        history stays there as well. Where that is, "" if there was nothing. A failure raises LedgerError; the
        ledger is then as it was, or cannot be written until this is called again.
        """
        ...

    def keep_copy(self, why: str) -> str:
        """Set a copy of it aside, as it is now; where that is. Raises LedgerError."""
        ...

    def close(self) -> None: ...
