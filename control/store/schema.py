"""The shape of the ledger's file: every version that there has been, and the step from each to the next.

``PRAGMA user_version`` is the shape of a file. Its table ``compatible`` says since which version a release
can read and write it: a step that only adds columns with a default, or tables, leaves that number as it is,
since every statement names its columns. So an older release goes on with a newer file, or sets it aside; it
refuses none. The one release that knew schema 1 only did refuse, and wrote rows by position: ``to_schema_1``
makes a file for it.

A step is a script that is run in one transaction. None is ever changed once it was released;
``tests/contract/store`` has a file of each version, as its release wrote it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Step:
    """To version ``to``. ``compatible_since``: the oldest version whose releases can use the result."""

    to: int
    compatible_since: int
    script: str


STEPS = (
    Step(
        1,
        1,
        """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE eni (
    eni_id TEXT PRIMARY KEY, mac TEXT NOT NULL, vswitch_id TEXT NOT NULL, primary_ip TEXT NOT NULL,
    state TEXT NOT NULL, since REAL NOT NULL, cidr TEXT, gateway TEXT, cidr_v6 TEXT, gateway_v6 TEXT,
    reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE address (
    address TEXT PRIMARY KEY, eni_id TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL,
    container_id TEXT, ifname TEXT, last_uid TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE attachment (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
    uid TEXT NOT NULL, netns TEXT NOT NULL, host_link TEXT NOT NULL, eni_id TEXT NOT NULL,
    ipv4 TEXT, ipv6 TEXT, state TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (container_id, ifname)) WITHOUT ROWID;
CREATE TABLE operation (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, since REAL NOT NULL, eni_id TEXT, vswitch_id TEXT,
    security_groups TEXT NOT NULL, ipv4_count INTEGER NOT NULL, ipv6_count INTEGER NOT NULL,
    addresses TEXT NOT NULL) WITHOUT ROWID;
""",
    ),
    # An attachment's eni_id is the id of its uplink. The tables that a roll-back left there have the past.
    Step(
        2,
        2,
        """
ALTER TABLE eni ADD COLUMN kind TEXT NOT NULL DEFAULT 'secondary';
ALTER TABLE eni ADD COLUMN parent TEXT;
ALTER TABLE eni ADD COLUMN vlan INTEGER NOT NULL DEFAULT 0;
ALTER TABLE eni ADD COLUMN security_groups TEXT NOT NULL DEFAULT '[]';
ALTER TABLE address ADD COLUMN prefix TEXT;
ALTER TABLE attachment ADD COLUMN mode TEXT NOT NULL DEFAULT 'policy_route';
ALTER TABLE attachment ADD COLUMN uplink_kind TEXT NOT NULL DEFAULT 'shared_eni';
ALTER TABLE attachment ADD COLUMN uplink_vlan INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attachment ADD COLUMN made REAL NOT NULL DEFAULT 0;
ALTER TABLE operation ADD COLUMN eni_kind TEXT NOT NULL DEFAULT 'secondary';
UPDATE attachment SET made = since;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, address TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
    uid TEXT NOT NULL, container_id TEXT NOT NULL, ifname TEXT NOT NULL, mode TEXT NOT NULL,
    eni_id TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL, ended TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS history_of_address ON history (address);
CREATE TABLE IF NOT EXISTS compatible (since INTEGER NOT NULL);
""",
    ),
)

_ADDED_BY_2 = {
    "eni": ("kind", "parent", "vlan", "security_groups"),
    "address": ("prefix",),
    "attachment": ("mode", "uplink_kind", "uplink_vlan", "made"),
    "operation": ("eni_kind",),
}


class NewerSchema(sqlite3.DatabaseError):
    """A later release wrote it, and wrote it so that this one could misread it."""


class ForeignDatabase(sqlite3.DatabaseError):
    """SQLite's, and nothing of ours: no step of a schema is taken in it."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


def bring_up_to_date(db: sqlite3.Connection) -> None:
    """Take every step that the file lacks, in one transaction. Raises NewerSchema or sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(db)
        if not version and db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
            raise ForeignDatabase("it is another program's database")
        if version > SCHEMA_VERSION and compatible_since(db) > SCHEMA_VERSION:
            raise NewerSchema(f"it has schema {version}, this terwayd knows up to {SCHEMA_VERSION}")
        for step in STEPS:
            if step.to > version:
                _take(db, step)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _take(db: sqlite3.Connection, step: Step) -> None:
    for statement in step.script.split(";"):
        if statement.strip():
            db.execute(statement)
    if step.to > 1:
        db.execute("DELETE FROM compatible")
        db.execute("INSERT INTO compatible (since) VALUES (?)", (step.compatible_since,))
    db.execute(f"PRAGMA user_version={step.to}")


def version_of(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def compatible_since(db: sqlite3.Connection) -> int:
    """A file that does not say is for releases of its own version."""
    try:
        found = db.execute("SELECT since FROM compatible").fetchone()
    except sqlite3.OperationalError:
        found = None
    return version_of(db) if found is None else int(found[0])


def unknown_to_schema_1(db: sqlite3.Connection) -> str:
    """What schema 1 has no words for, "" if there is nothing."""
    pods = db.execute(
        "SELECT namespace || '/' || pod || ' (' || mode || ')' FROM attachment"
        " WHERE mode != 'policy_route' OR uplink_kind != 'shared_eni'"
    )
    enis = db.execute("SELECT eni_id || ' (' || kind || ')' FROM eni WHERE kind != 'secondary'")
    coming = db.execute(
        "SELECT 'an ENI under creation (' || eni_kind || ')' FROM operation"
        " WHERE eni_kind != 'secondary' AND eni_id IS NULL"
    )
    return ", ".join(name for (name,) in (*pods, *enis, *coming))


def to_schema_1(db: sqlite3.Connection) -> None:
    """For the release that knows no other. The past stays, in tables that it does not look at."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for table, names in _ADDED_BY_2.items():
            for name in names:
                db.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        db.execute("PRAGMA user_version=1")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
