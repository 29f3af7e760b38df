"""Every schema that a release has written is brought up to date, and the one before can be written back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from control.model.errors import LedgerError
from control.model.ids import AttachmentKey, ClientToken, EniId, PodKey
from control.model.modes import EniKind, NetworkMode, shared_eni
from control.model.records import (
    AttachmentRecord,
    AttachmentState,
    Changes,
    Ended,
    EniState,
    HistoryRecord,
    Operation,
    OperationKind,
)
from control.store.ledger import SqliteLedger
from control.store.schema import SCHEMA_VERSION, STEPS, compatible_since
from tests.contract.store.test_ledger import ALL
from tests.e2e import cluster_images

WRITTEN = Path(__file__).with_name("written_by")
WEB, LOST = AttachmentKey("c" * 64, "eth0"), AttachmentKey("d" * 64, "eth0")


def written(schema: int, path: Path) -> Path:
    """A ledger's file as the release of that schema has left it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript((WRITTEN / f"schema_{schema}.sql").read_text())
        db.execute("PRAGMA journal_mode=WAL")
    return path


def shape(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in found}


def test_every_step_has_a_file_and_the_steps_are_in_order() -> None:
    assert [step.to for step in STEPS] == list(range(1, SCHEMA_VERSION + 1))
    assert all(step.compatible_since <= step.to for step in STEPS)
    assert {int(p.stem.removeprefix("schema_")) for p in WRITTEN.glob("schema_*.sql")} == set(
        range(1, SCHEMA_VERSION + 1)
    )


@pytest.mark.parametrize("schema", range(1, SCHEMA_VERSION + 1))
def test_what_a_release_has_written_is_all_there_in_its_own_mode(tmp_path: Path, schema: int) -> None:
    path = written(schema, tmp_path / "l.db")
    ledger = SqliteLedger(path)
    assert ledger.moved_aside == ""
    found = ledger.load()
    assert {e.eni_id: e.state for e in found.enis} == {
        "eni-1": EniState.SERVING,
        "eni-2": EniState.FROZEN,
        "eni-3": EniState.ATTACHING,
        "eni-4": EniState.RELEASING,
    }
    assert {e.kind for e in found.enis} == {EniKind.SECONDARY}
    assert len(found.addresses) == 6
    assert {a.owner for a in found.addresses} == {None, WEB, LOST}
    web = AttachmentRecord(
        key=WEB,
        pod=PodKey("default", "web-0"),
        uid="uid-web",
        netns="/run/netns/web",
        host_link="cali0123456789a",
        uplink=shared_eni(EniId("eni-1")),
        ipv4=IPv4Address("10.0.16.11"),
        ipv6=IPv6Address("2001:db8:10:1::b"),
        state=AttachmentState.READY,
        since=201.25,
        mode=NetworkMode.POLICY_ROUTE,
        made=201.25,
    )
    assert {a.key: a for a in found.attachments}[WEB] == web
    assert {o.kind for o in found.operations} == {OperationKind.CREATE_ENI, OperationKind.RELEASE_ENI}
    assert found.facts == {"boot_id": "b-1", "probe": "7.5"}
    ledger.write(Changes(attachments=(replace(web, key=AttachmentKey("e" * 64, "eth0")),)))
    ledger.close()
    again = SqliteLedger(path)
    assert web in again.load().attachments
    again.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert compatible_since(db) == STEPS[-1].compatible_since


def test_a_file_that_came_by_steps_is_as_one_that_was_made_today(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "new.db").close()
    old = written(1, tmp_path / "old.db")
    SqliteLedger(old).close()
    assert shape(old) == shape(tmp_path / "new.db")


def test_no_released_step_was_changed(tmp_path: Path) -> None:
    """The newest file is what this code writes: whoever changes a step adds one instead, and its file."""
    SqliteLedger(tmp_path / "new.db").close()
    newest = written(SCHEMA_VERSION, tmp_path / "written.db")
    assert shape(newest) == shape(tmp_path / "new.db")


_KILLED = """
import os, signal, sqlite3, sys
from control.store import schema
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.set_trace_callback(lambda sql: os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] in sql else None)
schema.bring_up_to_date(db)
"""


_MOMENTS = ("ADD COLUMN kind", "ADD COLUMN made", "UPDATE attachment", "history_of", "COMMIT")


@pytest.mark.parametrize("at", _MOMENTS)
def test_a_step_that_is_cut_off_is_taken_again(tmp_path: Path, at: str) -> None:
    path = written(1, tmp_path / "l.db")
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path), at], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    ledger = SqliteLedger(path)
    assert ledger.moved_aside == ""
    assert {a.made for a in ledger.load().attachments} == {201.25, 151.0}
    ledger.close()


_BEFORE = """
import pathlib, sys
from dataclasses import replace
from control.model.records import Changes
from control.store.ledger import SqliteLedger
assert "before" in sys.modules["control.store.ledger"].__file__
ledger = SqliteLedger(pathlib.Path(sys.argv[1]))
found = ledger.load()
for kind in ("enis", "addresses", "attachments", "operations"):
    for record in getattr(found, kind):
        ledger.write(Changes(**{kind: (record,)}))
assert ledger.load() == found
one = found.attachments[0]
ledger.write(Changes(attachments=(replace(one, key=replace(one.key, ifname="net1")),)))
ledger.remember("boot_id", "b-2")
print(len(found.enis), len(found.addresses), len(found.attachments), len(found.operations))
ledger.close()
"""


def _before(scratch: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """The ledger's code of the release before, on ``path``."""
    tree = scratch / "before"
    if not tree.exists():
        try:
            cluster_images.source_tree(tree, cluster_images.BEFORE)
        except cluster_images.NoHistoryError as exc:
            pytest.skip(str(exc))
    return subprocess.run(
        [sys.executable, "-P", "-c", _BEFORE, str(path)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )


def test_the_release_before_serves_from_what_is_written_back_for_it(tmp_path: Path) -> None:
    path = written(1, tmp_path / "l.db")
    first = shape(path)
    ledger = SqliteLedger(path)
    past = HistoryRecord(
        IPv4Address("10.0.16.12"),
        PodKey("a", "b"),
        "u",
        WEB,
        NetworkMode.POLICY_ROUTE,
        EniId("eni-1"),
        1.0,
        2.0,
        Ended.DELETED,
    )
    ledger.write(Changes(history=(past,)))
    refused = _before_refuses(tmp_path, path, ledger)
    assert "has schema 2, this terwayd knows up to 1" in refused, "the reason for the command"
    ledger = SqliteLedger(path)
    ledger.write_schema_1()
    web = next(a for a in ledger.load().attachments if a.key == WEB)
    ledger.write(Changes(attachments=(replace(web, since=300.0),)))  # until it is replaced it serves on
    ledger.close()
    assert {n: s for n, s in shape(path).items() if n in first} == first
    done = _before(tmp_path, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", "6", "2", "2"]
    ledger = SqliteLedger(path)
    assert ledger.load().facts["boot_id"] == "b-2"
    assert {a.key.ifname for a in ledger.load().attachments} == {"eth0", "net1"}
    assert ledger.history(IPv4Address("10.0.16.12")) == (past,), "the past outlives the roll-back"
    ledger.close()


def _before_refuses(scratch: Path, path: Path, ledger: SqliteLedger) -> str:
    ledger.close()
    done = _before(scratch, path)
    assert done.returncode != 0
    return done.stderr


def test_what_schema_1_has_no_word_for_is_not_written_in_it(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "l.db")
    ledger.write(ALL)
    with pytest.raises(LedgerError, match=re.escape("default/web-0 (vlan), eni-1 (member)")):
        ledger.write_schema_1()
    assert ledger.load().attachments == ALL.attachments
    ledger.write(Changes(gone_attachments=(ALL.attachments[0].key,), gone_enis=(ALL.enis[0].eni_id,)))
    ledger.write_schema_1()
    with pytest.raises(LedgerError, match=re.escape("no word for default/web-0 (vlan)")):
        ledger.write(ALL)
    assert ledger.load().attachments == ()
    own = Operation(ClientToken("t-own"), OperationKind.CREATE_ENI, 1.0, eni_kind=EniKind.EXCLUSIVE)
    with pytest.raises(LedgerError, match=re.escape("no word for an ENI under creation (exclusive)")):
        ledger.write(Changes(operations=(own,)))
    with pytest.raises(LedgerError, match=re.escape("no word for eni-1 (member)")):
        ledger.write(Changes(enis=ALL.enis[:1]))
    ledger.write(Changes(operations=(replace(own, eni_kind=EniKind.SECONDARY),)))
    ledger.close()
