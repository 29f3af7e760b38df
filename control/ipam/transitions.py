"""What each step of an address's, an attachment's and an ENI's life changes: records in, ``Changes`` out.

::

    FREE ──reserve──▶ ASSIGNED ──commit──▶ (attachment READY)
      ▲                  │ unreserve           │ begin_delete
      ├──────────────────┘                     ▼
      ├──────────────finish_delete── (attachment DELETING)
      │
      └─begin_release──▶ RELEASING ──finish_release──▶ gone

A function here is the only place that knows a step. ``control.agent`` orders the steps, the ledger keeps
them, and recovery takes the same steps again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from control.ipam.book import Book
from control.model.cloud import Eni, EniType, MetadataEni
from control.model.eni_tags import tagged_kind
from control.model.ids import Address, EniId
from control.model.modes import EniKind
from control.model.records import (
    AddressRecord,
    AddressState,
    AttachmentRecord,
    AttachmentState,
    Changes,
    Ended,
    EniRecord,
    EniState,
    HistoryRecord,
    Operation,
    OperationKind,
)

KIND_OF_TYPE = {
    EniType.PRIMARY: EniKind.PRIMARY,
    EniType.SECONDARY: EniKind.SECONDARY,
    EniType.TRUNK: EniKind.TRUNK,
    EniType.MEMBER: EniKind.MEMBER,
}
"""What the cloud calls it says what it is for; whether a secondary one is exclusive only its maker knows."""


def reserve(book: Book, attachment: AttachmentRecord) -> Changes:
    """Intent of an ADD: the attachment as ADDING and its addresses as its own.

    An older sandbox of the same pod may have them until then. It stays as it is: if the ADD fails it has them
    back, see ``_let_go``.
    """
    return Changes(
        attachments=(attachment,),
        addresses=tuple(
            replace(
                book.addresses[a],
                state=AddressState.ASSIGNED,
                since=attachment.since,
                owner=attachment.key,
                last_uid=attachment.uid,
            )
            for a in attachment.addresses()
        ),
    )


def commit(
    book: Book, attachment: AttachmentRecord, now: float, *, replaces: Sequence[AttachmentRecord] = ()
) -> Changes:
    """The kernel objects are there and verified: the runtime may be told.

    ``replaces`` are older sandboxes of the same pod whose place it has taken. Their addresses cool, except
    those that the new attachment keeps.
    """
    freed = [r for old in replaces for r in _held_by(book, old)]
    return Changes(
        attachments=(replace(attachment, state=AttachmentState.READY, since=now),),
        addresses=tuple(_freed(r, now) for r in freed),
        gone_attachments=tuple(old.key for old in replaces),
        history=tuple(past for old in replaces for past in _past(old, now, Ended.REPLACED)),
    )


def unreserve(
    book: Book, attachment: AttachmentRecord, now: float, *, cool: Collection[Address] = ()
) -> Changes:
    """A failed ADD has been unwound: it never used its addresses, so only those in ``cool`` need to cool."""
    held = _held_by(book, attachment)
    return Changes(
        gone_attachments=(attachment.key,),
        addresses=tuple(_let_go(book, attachment, r, now if r.address in cool else 0.0) for r in held),
        history=_past(attachment, now, Ended.FAILED),
    )


def begin_delete(attachment: AttachmentRecord, now: float) -> Changes:
    return Changes(attachments=(replace(attachment, state=AttachmentState.DELETING, since=now),))


def finish_delete(book: Book, attachment: AttachmentRecord, now: float, ended: Ended) -> Changes:
    """It is gone. Of an ADD that was cut off nobody was told, whatever ends it."""
    why = Ended.FAILED if attachment.state is AttachmentState.ADDING else ended
    return Changes(
        gone_attachments=(attachment.key,),
        addresses=tuple(_let_go(book, attachment, r, now) for r in _held_by(book, attachment)),
        history=_past(attachment, now, why),
    )


def _past(attachment: AttachmentRecord, now: float, ended: Ended) -> tuple[HistoryRecord, ...]:
    """What is told of it once it has ended, one of each of its addresses."""
    return tuple(
        HistoryRecord(
            address=address,
            pod=attachment.pod,
            uid=attachment.uid,
            key=attachment.key,
            mode=attachment.mode,
            eni_id=attachment.eni_id,
            since=attachment.made,
            until=now,
            ended=ended,
        )
        for address in attachment.addresses()
    )


def rebuilt(
    book: Book, attachment: AttachmentRecord, outdated: Iterable[AttachmentRecord], now: float
) -> Changes:
    """It runs and the ledger had lost it. ``outdated`` are those who had its addresses, and are gone."""
    ended = [finish_delete(book, old, now, Ended.OUTDATED) for old in outdated]
    return Changes(
        attachments=(attachment,),
        addresses=(
            *(record for each in ended for record in each.addresses),
            *(
                replace(
                    record,
                    state=AddressState.FROZEN
                    if record.state is AddressState.FROZEN
                    else AddressState.ASSIGNED,
                    since=now,
                    owner=attachment.key,
                    last_uid=attachment.uid,
                )
                for record in (book.addresses[a] for a in attachment.addresses())
            ),
        ),
        gone_attachments=tuple(key for each in ended for key in each.gone_attachments),
        history=tuple(past for each in ended for past in each.history),
    )


def lose(attachments: Iterable[AttachmentRecord], now: float) -> Changes:
    """After a reboot: the kernel objects are gone, the pods may come back for their addresses."""
    return Changes(attachments=tuple(replace(a, state=AttachmentState.LOST, since=now) for a in attachments))


def _held_by(book: Book, attachment: AttachmentRecord) -> list[AddressRecord]:
    """Its addresses that are still its own: what has another owner by now is not its to give back."""
    records = (book.addresses.get(a) for a in attachment.addresses())
    return [r for r in records if r is not None and r.owner == attachment.key]


def _let_go(book: Book, attachment: AttachmentRecord, record: AddressRecord, since: float) -> AddressRecord:
    """An address of an attachment that ends: back to the older sandbox it was taken over from, if any."""
    for other in book.of_pod(attachment.pod):
        lives = other.key != attachment.key and other.state in (AttachmentState.READY, AttachmentState.LOST)
        if lives and record.address in other.addresses():
            return replace(record, owner=other.key, last_uid=other.uid, since=other.since)
    return _freed(record, since)


def _freed(record: AddressRecord, since: float) -> AddressRecord:
    """Back to the pool to cool; a frozen one stays frozen, without its owner."""
    state = record.state if record.state is AddressState.FROZEN else AddressState.FREE
    return replace(record, state=state, since=since, owner=None)


def begin_operation(operation: Operation) -> Changes:
    return Changes(operations=(operation,))


def abandon_operation(operation: Operation) -> Changes:
    """The cloud refused it, so there is nothing to undo."""
    return Changes(gone_operations=(operation.token,))


def eni_created(operation: Operation, eni: Eni, now: float) -> Changes:
    """The cloud has answered Create: from here on the ENI has a name and cannot leak unseen."""
    return Changes(
        operations=(replace(operation, eni_id=eni.eni_id),),
        enis=(
            EniRecord(
                eni_id=eni.eni_id,
                mac=eni.mac,
                vswitch_id=eni.vswitch_id,
                primary_ip=eni.primary_ip,
                state=EniState.ATTACHING,
                since=now,
                security_groups=eni.security_groups or operation.security_groups,
                kind=operation.eni_kind,
            ),
        ),
    )


def eni_serves(
    book: Book, eni: EniRecord, seen: MetadataEni, now: float, *, operation: Operation | None
) -> Changes:
    """All three witnesses agree: its addresses join the pool.

    Metadata read without IPv6 does not unlearn what pods of a dual-stack past still need.
    """
    addresses: tuple[Address, ...] = (*seen.ipv4, *seen.ipv6)
    return Changes(
        enis=(
            replace(
                eni,
                state=EniState.SERVING,
                since=now,
                cidr=seen.cidr,
                gateway=seen.gateway,
                cidr_v6=seen.cidr_v6 or eni.cidr_v6,
                gateway_v6=seen.gateway_v6 or eni.gateway_v6,
                reason="",
            ),
        ),
        addresses=_new_addresses(book, eni.eni_id, addresses),
        gone_operations=(operation.token,) if operation else (),
    )


def addresses_assigned(book: Book, operation: Operation, addresses: Sequence[Address]) -> Changes:
    assert operation.eni_id is not None
    return Changes(
        addresses=_new_addresses(book, operation.eni_id, addresses), gone_operations=(operation.token,)
    )


def _new_addresses(book: Book, eni_id: EniId, addresses: Iterable[Address]) -> tuple[AddressRecord, ...]:
    """In numeric order, so that equal states give equal choices. Known ones keep their record."""
    ordered = sorted(addresses, key=lambda a: (a.version, int(a)))
    return tuple(AddressRecord(a, eni_id, AddressState.FREE, 0.0) for a in ordered if a not in book.addresses)


def begin_release(book: Book, operation: Operation, now: float) -> Changes:
    """Take ``operation.addresses`` (and the whole ENI, if that is what it says) out of the pool."""
    changes = Changes(
        operations=(operation,),
        addresses=tuple(
            replace(book.addresses[a], state=AddressState.RELEASING, since=now)
            for a in operation.addresses
            if a in book.addresses
        ),
    )
    eni = book.enis.get(operation.eni_id) if operation.eni_id is not None else None
    if operation.kind is OperationKind.RELEASE_ENI and eni is not None:
        changes = replace(changes, enis=(replace(eni, state=EniState.RELEASING, since=now),))
    return changes


def finish_release(book: Book, operation: Operation) -> Changes:
    """The cloud has let go of them."""
    gone: tuple[Address, ...] = operation.addresses
    gone_enis: tuple[EniId, ...] = ()
    if operation.kind is OperationKind.RELEASE_ENI and operation.eni_id is not None:
        gone = tuple(r.address for r in book.of_eni(operation.eni_id))
        gone_enis = (operation.eni_id,)
    return Changes(gone_addresses=gone, gone_enis=gone_enis, gone_operations=(operation.token,))


def keep(book: Book, operation: Operation, kept: Collection[Address], now: float) -> Changes:
    """Addresses of a release that turn out to be in use: the operation goes on without them, or ends."""
    left = tuple(a for a in operation.addresses if a not in kept)
    records = (book.addresses[a] for a in operation.addresses if a in kept and a in book.addresses)
    return Changes(
        operations=(replace(operation, addresses=left),) if left else (),
        gone_operations=() if left else (operation.token,),
        addresses=tuple(_freed(r, now) for r in records if r.owner is None),
    )


def keep_eni(book: Book, operation: Operation, reason: str, now: float) -> Changes:
    """An ENI that was to be given back stays: frozen, until all witnesses are asked about it again."""
    assert operation.eni_id is not None
    eni = book.enis.get(operation.eni_id)
    frozen = () if eni is None else (replace(eni, state=EniState.FROZEN, since=now, reason=reason),)
    records = [r for r in book.of_eni(operation.eni_id) if r.state is AddressState.RELEASING]
    return Changes(
        enis=frozen,
        addresses=tuple(replace(r, state=AddressState.FREE, since=now) for r in records),
        gone_operations=(operation.token,),
    )


def settle_release(book: Book, operation: Operation, shown: Collection[Address], now: float) -> Changes:
    """The end of a release that nobody confirmed: what is not ``shown`` any more is gone.

    The rest is frozen, as the views may lag: it thaws when cloud and metadata are both asked again.
    """
    left = [book.addresses[a] for a in operation.addresses if a in shown and a in book.addresses]
    return Changes(
        addresses=tuple(replace(r, state=AddressState.FROZEN, since=now) for r in left),
        gone_addresses=tuple(a for a in operation.addresses if a not in shown),
        gone_operations=(operation.token,),
    )


def cool(records: Iterable[AddressRecord], now: float) -> Changes:
    """Free addresses that a pod without a record has just let go of."""
    return Changes(addresses=tuple(replace(r, since=now) for r in records))


def freeze_addresses(records: Iterable[AddressRecord], now: float) -> Changes:
    """Two witnesses no longer show them: whoever holds one keeps it, nobody else gets it."""
    return Changes(
        addresses=tuple(
            replace(r, state=AddressState.FROZEN, since=r.since if r.owner else now) for r in records
        )
    )


def thaw_addresses(records: Iterable[AddressRecord], now: float) -> Changes:
    """Seen again."""
    return Changes(
        addresses=tuple(
            replace(
                r,
                state=AddressState.ASSIGNED if r.owner else AddressState.FREE,
                since=r.since if r.owner else now,
            )
            for r in records
        )
    )


def freeze_eni(eni: EniRecord, reason: str, now: float) -> Changes:
    return Changes(enis=(replace(eni, state=EniState.FROZEN, since=now, reason=reason),))


def adopt_addresses(book: Book, eni_id: EniId, addresses: Iterable[Address]) -> Changes:
    """The cloud and metadata both show them on an ENI of ours and the ledger does not know them."""
    return Changes(addresses=_new_addresses(book, eni_id, addresses))


def shown_eni(seen: MetadataEni, kind: EniKind, now: float) -> EniRecord:
    """An ENI that the kernel says is ours, as metadata shows it, which knows no security groups."""
    return EniRecord(
        eni_id=seen.eni_id,
        mac=seen.mac,
        vswitch_id=seen.vswitch_id,
        primary_ip=seen.primary_ip,
        state=EniState.ATTACHING,
        since=now,
        kind=kind,
        cidr=seen.cidr,
        gateway=seen.gateway,
        cidr_v6=seen.cidr_v6,
        gateway_v6=seen.gateway_v6,
    )


def adopt_eni(eni: Eni, now: float) -> Changes:
    """An ENI with our tag that the ledger does not know: it becomes ours, to be seen by all witnesses."""
    return Changes(
        enis=(
            EniRecord(
                eni_id=eni.eni_id,
                mac=eni.mac,
                vswitch_id=eni.vswitch_id,
                primary_ip=eni.primary_ip,
                state=EniState.ATTACHING,
                since=now,
                kind=tagged_kind(eni.tags)
                if eni.eni_type is EniType.SECONDARY
                else KIND_OF_TYPE[eni.eni_type],
                security_groups=eni.security_groups,
            ),
        )
    )
