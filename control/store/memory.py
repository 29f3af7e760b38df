"""The ledger's fake: the same promises, gone with the process. One contract file runs against both."""

from __future__ import annotations

from control.model.ids import Address, AttachmentKey, ClientToken, EniId
from control.model.records import AddressRecord, AttachmentRecord, Changes, EniRecord, Operation, Snapshot


class MemoryLedger:
    def __init__(self) -> None:
        self._enis: dict[EniId, EniRecord] = {}
        self._addresses: dict[Address, AddressRecord] = {}
        self._attachments: dict[AttachmentKey, AttachmentRecord] = {}
        self._operations: dict[ClientToken, Operation] = {}
        self._facts: dict[str, str] = {}

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

    def close(self) -> None:
        pass
