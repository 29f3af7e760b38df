"""The ledger's fake: the same promises, gone with the process. One contract file runs against both."""

from __future__ import annotations

from control.model.ids import Address, AttachmentKey, ClientToken, EniId
from control.model.records import (
    AddressRecord,
    AttachmentRecord,
    Changes,
    EniRecord,
    HistoryRecord,
    Operation,
    Snapshot,
    Subject,
)
from control.store.history import MemoryHistory


class MemoryLedger:
    def __init__(self) -> None:
        self._enis: dict[EniId, EniRecord] = {}
        self._addresses: dict[Address, AddressRecord] = {}
        self._attachments: dict[AttachmentKey, AttachmentRecord] = {}
        self._operations: dict[ClientToken, Operation] = {}
        self._facts: dict[str, str] = {}
        self._history = MemoryHistory()

    def load(self) -> Snapshot:
        return Snapshot(
            tuple(self._enis.values()),
            tuple(self._addresses.values()),
            tuple(self._attachments.values()),
            tuple(self._operations.values()),
            dict(self._facts),
        )

    def write(self, changes: Changes) -> None:
        self._enis.update((e.eni_id, e) for e in changes.enis)
        self._addresses.update((a.address, a) for a in changes.addresses)
        self._attachments.update((a.key, a) for a in changes.attachments)
        self._operations.update((o.token, o) for o in changes.operations)
        self._history.add(changes.history)
        for eni in changes.gone_enis:
            self._enis.pop(eni, None)
        for address in changes.gone_addresses:
            self._addresses.pop(address, None)
        for key in changes.gone_attachments:
            self._attachments.pop(key, None)
        for token in changes.gone_operations:
            self._operations.pop(token, None)

    def remember(self, fact: str, value: str) -> None:
        self._facts[fact] = value

    def history(self, of: Subject) -> tuple[HistoryRecord, ...]:
        return self._history.of(of)

    def missing(self) -> str:
        return ""

    def make_private(self) -> tuple[str, ...]:
        return ()

    def begin_anew(self, snapshot: Snapshot, *, aside: str = "") -> str:
        self._enis.clear()
        self._addresses.clear()
        self._attachments.clear()
        self._operations.clear()
        if aside:
            self._history = MemoryHistory()
        self._facts = dict(snapshot.facts)
        self.write(as_changes(snapshot))
        return f"memory.{aside}" if aside else ""

    def keep_copy(self, why: str) -> str:
        return f"memory.{why}"

    def close(self) -> None:
        pass


def as_changes(snapshot: Snapshot) -> Changes:
    """All its rows, put."""
    return Changes(
        enis=snapshot.enis,
        addresses=snapshot.addresses,
        attachments=snapshot.attachments,
        operations=snapshot.operations,
    )
