"""``terway-cli history``: who has and had an address, when, in which sandbox, and why no longer."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from control.agent.state.journal import Journal
from control.model.errors import RequestError
from control.model.ids import EniId, PodKey
from control.model.records import AttachmentRecord, HistoryRecord, Subject

Row = dict[str, Any]
"""``since`` and ``until`` in seconds since 1970: None for before the ledger was rebuilt, and for still."""


def subject(text: str) -> Subject:
    """An address, NAMESPACE/POD, or an ENI's id. Raises RequestError."""
    try:
        return ip_address(text)
    except ValueError:
        pass
    namespace, slash, name = text.partition("/")
    if slash and namespace and name:
        return PodKey(namespace, name)
    if text.startswith("eni-"):
        return EniId(text)
    raise RequestError(
        f"{text!r} is neither an address, nor NAMESPACE/POD, nor an ENI's id",
        remedy="ask for 10.0.16.5, default/web-0 or eni-bp1...",
    )


def history(journal: Journal, of: Subject) -> list[Row]:
    """What has ended, oldest first, then what is. Raises LedgerError."""
    present = sorted(_present(journal, of), key=lambda row: row["since"] or 0.0)
    return [*map(_ended, journal.history(of)), *present]


def _present(journal: Journal, of: Subject) -> Iterator[Row]:
    for record in journal.book.attachments.values():
        for address in record.addresses():
            if of in (address, record.pod, record.eni_id):
                told = {"address": str(address), "since": record.made or None, "until": None, "ended": ""}
                yield told | _who(record)


def _ended(record: HistoryRecord) -> Row:
    return {
        "address": str(record.address),
        "since": record.since or None,
        "until": record.until,
        "ended": record.ended.value,
    } | _who(record)


def _who(record: AttachmentRecord | HistoryRecord) -> Row:
    return {
        "pod": str(record.pod),
        "uid": record.uid,
        "sandbox": record.key.container_id,
        "interface": record.key.ifname,
        "mode": record.mode.value,
        "eni": record.eni_id,
    }
