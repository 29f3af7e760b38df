"""The tables of one open file: records in and out, each statement naming its columns.

Columns that the file does not have are left out, and those that this release does not know are left alone:
a file can be an older release's, for which it was written back, or a newer one's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypeVar

from control.model.modes import EniKind, NetworkMode, UplinkKind
from control.model.records import Changes, Snapshot
from control.store import rows
from control.store.history import History

_T = TypeVar("_T")

COLUMNS: dict[str, tuple[str, ...]] = {
    "eni": (
        "eni_id",
        "mac",
        "vswitch_id",
        "primary_ip",
        "state",
        "since",
        "cidr",
        "gateway",
        "cidr_v6",
        "gateway_v6",
        "reason",
        "kind",
        "parent",
        "vlan",
        "security_groups",
    ),
    "address": (
        "address",
        "eni_id",
        "state",
        "since",
        "container_id",
        "ifname",
        "last_uid",
        "prefix",
    ),
    "attachment": (
        "container_id",
        "ifname",
        "namespace",
        "pod",
        "uid",
        "netns",
        "host_link",
        "eni_id",
        "ipv4",
        "ipv6",
        "state",
        "since",
        "mode",
        "uplink_kind",
        "uplink_vlan",
        "made",
    ),
    "operation": (
        "token",
        "kind",
        "since",
        "eni_id",
        "vswitch_id",
        "security_groups",
        "ipv4_count",
        "ipv6_count",
        "addresses",
        "eni_kind",
    ),
}
"""What this release writes, in the words of ``rows``."""


class Tables:
    """``put`` and ``drop`` are called within a transaction of the caller's. Raise sqlite3.Error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        there = {table: _columns_of(db, table) for table in COLUMNS}
        self._puts = {
            table: _put(table, [c for c in names if c in there[table]]) for table, names in COLUMNS.items()
        }
        """Per table the statement, and what takes its values out of a row."""
        self._has_modes = "mode" in there["attachment"]
        self.history = History(db)

    def read(self) -> Snapshot:
        """Raises ValueError or a kin of it for a row that nobody wrote so."""
        return Snapshot(
            enis=self._all("eni", rows.eni_record),
            addresses=self._all("address", rows.address_record),
            attachments=self._all("attachment", rows.attachment_record),
            operations=self._all("operation", rows.operation_record),
            facts=self._facts(),
        )

    def _facts(self) -> dict[str, str]:
        found = self._db.execute("SELECT name, value FROM fact").fetchall()
        for name, value in found:
            rows.sound({"name": name, "value": value}, ("name", "value"))
        return dict(found)

    def _all(self, table: str, make: Callable[[rows.Row], _T]) -> tuple[_T, ...]:
        found = self._db.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in found.description]
        return tuple(make(rows.sound(dict(zip(names, row, strict=True)), COLUMNS[table])) for row in found)

    def unsayable(self, c: Changes) -> str:
        """What of ``c`` the file has no word for, "" if nothing: it was written for the release before."""
        if self._has_modes:
            return ""
        usual = (NetworkMode.POLICY_ROUTE, UplinkKind.SHARED_ENI)
        pods = (f"{a.pod} ({a.mode})" for a in c.attachments if (a.mode, a.uplink.kind) != usual)
        enis = (f"{e.eni_id} ({e.kind})" for e in c.enis if e.kind is not EniKind.SECONDARY)
        kinds = (o.eni_kind for o in c.operations if o.eni_id is None)
        coming = (f"an ENI under creation ({kind})" for kind in kinds if kind is not EniKind.SECONDARY)
        return ", ".join((*pods, *enis, *coming))

    def put(self, c: Changes) -> None:
        for table, found in (
            ("eni", map(rows.eni_row, c.enis)),
            ("address", map(rows.address_row, c.addresses)),
            ("attachment", map(rows.attachment_row, c.attachments)),
            ("operation", map(rows.operation_row, c.operations)),
        ):
            statement, values = self._puts[table]
            for row in found:
                self._db.execute(statement, values(row))
        if c.history:
            self.history.add(c.history)

    def drop(self, c: Changes) -> None:
        for eni_id in c.gone_enis:
            self._db.execute("DELETE FROM eni WHERE eni_id = ?", (eni_id,))
        for address in c.gone_addresses:
            self._db.execute("DELETE FROM address WHERE address = ?", (str(address),))
        for key in c.gone_attachments:
            self._db.execute(
                "DELETE FROM attachment WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname)
            )
        for token in c.gone_operations:
            self._db.execute("DELETE FROM operation WHERE token = ?", (token,))

    def remember(self, fact: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (fact, value))


def _columns_of(db: sqlite3.Connection, table: str) -> frozenset[str]:
    return frozenset(name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,)))


def _put(table: str, columns: list[str]) -> tuple[str, Callable[[rows.Row], tuple[Any, ...]]]:
    """By position, which is a sixth cheaper than by name; the order is the statement's own."""
    marks = ", ".join("?" for _ in columns)
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})", itemgetter(*columns)
