"""The records in memory, indexed. Changes come in as ``Changes`` values that the ledger has already taken.

Write order everywhere: build the ``Changes`` (``control.ipam.transitions``), write them to the ledger,
``Book.apply`` them. If the ledger fails, memory has not moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TypeVar

from control.model.ids import Address, AttachmentKey, ClientToken, EniId, PodKey
from control.model.modes import EniKind
from control.model.records import (
    AddressRecord,
    AddressState,
    AttachmentRecord,
    Changes,
    EniRecord,
    EniState,
    Operation,
    Snapshot,
)

_K = TypeVar("_K")


class Book:
    """Records by key, plus per ENI and family the free addresses in the order they became free."""

    def __init__(self, snapshot: Snapshot, *, cooldown: float) -> None:
        self._cooldown = cooldown
        self._enis: dict[EniId, EniRecord] = {}
        self._addresses: dict[Address, AddressRecord] = {}
        self._attachments: dict[AttachmentKey, AttachmentRecord] = {}
        self._operations: dict[ClientToken, Operation] = {}
        self._names: dict[str, dict[AttachmentKey, None]] = {}
        self._by_pod: dict[PodKey, dict[AttachmentKey, None]] = {}
        self._of_eni: dict[EniId, dict[Address, None]] = {}
        self._count: dict[tuple[EniId, int], int] = {}
        self._usable: dict[tuple[EniId, int], dict[Address, None]] = {}
        self._cooling: deque[AddressRecord] = deque()
        self._last: dict[str, dict[Address, None]] = {}
        self._held: frozenset[Address] = frozenset()
        self.apply(
            Changes(
                enis=snapshot.enis,
                addresses=tuple(sorted(snapshot.addresses, key=lambda a: a.since)),
                attachments=snapshot.attachments,
                operations=snapshot.operations,
            )
        )

    @property
    def enis(self) -> Mapping[EniId, EniRecord]:
        return self._enis

    @property
    def addresses(self) -> Mapping[Address, AddressRecord]:
        return self._addresses

    @property
    def attachments(self) -> Mapping[AttachmentKey, AttachmentRecord]:
        return self._attachments

    @property
    def operations(self) -> Mapping[ClientToken, Operation]:
        return self._operations

    @property
    def held(self) -> frozenset[Address]:
        """Addresses that the kernel shows in use by pods that these records do not know."""
        return self._held

    def hold(self, addresses: frozenset[Address]) -> frozenset[Address]:
        """From now on exactly these are held: whatever their records say, none is handed out or given back.

        Returns those that were held until now.
        """
        before, self._held = self._held, addresses
        for address in addresses - before:
            record = self._addresses.get(address)
            if record is not None:
                self._usable.get((record.eni_id, address.version), {}).pop(address, None)
        for address in before - addresses:
            record = self._addresses.get(address)
            if record is not None and record.state is AddressState.FREE and record not in self._cooling:
                self._make_usable(record)
        return before - addresses

    def of_pod(self, pod: PodKey) -> tuple[AttachmentRecord, ...]:
        return tuple(self._attachments[k] for k in self._by_pod.get(pod, ()))

    def pod_of(self, address: Address) -> PodKey | None:
        """Who holds the address, None if nobody does."""
        record = self._addresses.get(address)
        owner = self._attachments.get(record.owner) if record is not None and record.owner else None
        return None if owner is None else owner.pod

    def of_eni(self, eni_id: EniId) -> Iterator[AddressRecord]:
        return (self._addresses[a] for a in self._of_eni.get(eni_id, ()))

    def count(self, eni_id: EniId, family: int) -> int:
        """How many addresses of a family (4 or 6) an ENI has, in any state."""
        return self._count.get((eni_id, family), 0)

    def of_host_link(self, name: str) -> tuple[AttachmentRecord, ...]:
        """Whose link on the node has this name; more than one while a pod's sandbox follows another."""
        return tuple(self._attachments[k] for k in self._names.get(name, ()))

    def size_of(self, eni_id: EniId) -> int:
        """How many addresses an ENI has, of both families and in any state."""
        return len(self._of_eni.get(eni_id, ()))

    def usable(self, eni_id: EniId, family: int, now: float) -> Mapping[Address, None]:
        """Addresses that may be handed out now, longest free first. ``family`` is 4 or 6."""
        self._thaw(now)
        return self._usable.get((eni_id, family), {})

    def last_of(self, uid: str) -> tuple[Address, ...]:
        """Addresses whose last or present holder is the pod ``uid``."""
        return tuple(self._last.get(uid, ()))

    def cooling(self, now: float) -> tuple[AddressRecord, ...]:
        """Free addresses whose cooldown is not over, the next to be usable first."""
        self._thaw(now)
        return tuple(r for r in self._cooling if self._addresses.get(r.address) is r)

    def usable_at(self, record: AddressRecord) -> float:
        return record.since + self._cooldown if record.since else 0.0

    def serving(self, kind: EniKind = EniKind.SECONDARY) -> Iterator[EniRecord]:
        """Shared ones, if nothing else is asked for."""
        return (e for e in self._enis.values() if e.state is EniState.SERVING and e.kind is kind)

    def apply(self, c: Changes) -> None:
        for eni in c.enis:
            self._enis[eni.eni_id] = eni
        for gone in c.gone_addresses:
            self._forget(gone)
        for address in c.addresses:
            self._put(address)
        for key in c.gone_attachments:
            self._drop_attachment(key)
        for attachment in c.attachments:
            self._put_attachment(attachment)
        for token in c.gone_operations:
            self._operations.pop(token, None)
        for operation in c.operations:
            self._operations[operation.token] = operation
        for eni_id in c.gone_enis:
            self._enis.pop(eni_id, None)

    def _put(self, record: AddressRecord) -> None:
        self._forget(record.address)
        self._addresses[record.address] = record
        self._of_eni.setdefault(record.eni_id, {})[record.address] = None
        self._counted(record, 1)
        if record.last_uid:
            self._last.setdefault(record.last_uid, {})[record.address] = None
        if record.state is not AddressState.FREE:
            return
        if record.since:
            self._cooling.append(record)
        else:
            self._make_usable(record)

    def _forget(self, address: Address) -> None:
        old = self._addresses.pop(address, None)
        if old is None:
            return
        self._of_eni.get(old.eni_id, {}).pop(address, None)
        self._counted(old, -1)
        self._usable.get((old.eni_id, address.version), {}).pop(address, None)
        last = self._last.get(old.last_uid, {})
        last.pop(address, None)
        if not last:
            self._last.pop(old.last_uid, None)

    def _counted(self, record: AddressRecord, change: int) -> None:
        key = record.eni_id, record.address.version
        self._count[key] = self._count.get(key, 0) + change
        if not self._count[key]:
            del self._count[key]

    def _make_usable(self, record: AddressRecord) -> None:
        if record.address in self._held:
            return
        self._usable.setdefault((record.eni_id, record.address.version), {})[record.address] = None

    def _thaw(self, now: float) -> None:
        """Move what has cooled to the usable ones. The queue is in the order of ``since``."""
        while self._cooling:
            record = self._cooling[0]
            current = self._addresses.get(record.address) is record
            if current and self.usable_at(record) > now:
                return
            self._cooling.popleft()
            if current:
                self._make_usable(record)

    def _put_attachment(self, record: AttachmentRecord) -> None:
        old = self._attachments.get(record.key)
        if old is not None and (old.pod, old.host_link) != (record.pod, record.host_link):
            self._drop_attachment(record.key)
        self._attachments[record.key] = record
        self._by_pod.setdefault(record.pod, {})[record.key] = None
        self._names.setdefault(record.host_link, {})[record.key] = None

    def _drop_attachment(self, key: AttachmentKey) -> None:
        old = self._attachments.pop(key, None)
        if old is not None:
            _take_out(self._by_pod, old.pod, key)
            _take_out(self._names, old.host_link, key)


def _take_out(index: dict[_K, dict[AttachmentKey, None]], at: _K, key: AttachmentKey) -> None:
    found = index.get(at, {})
    found.pop(key, None)
    if not found:
        index.pop(at, None)
