"""What is found instead of a ledger is set aside, and a new one begun: no start waits for a hand."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from control.model.ids import AttachmentKey
from control.model.records import AttachmentRecord, Changes, Snapshot
from control.store.ledger import SqliteLedger
from control.store.place import KEPT_ASIDE
from tests.contract.store.test_ledger import ALL, ATTACHMENT, KEY


def _sql(statement: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.executescript(statement)

    return run


def _overwritten(path: Path) -> None:
    path.write_bytes(b"not a database at all, " * 100)


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _torn(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


FOUND = {
    "garbage": (_overwritten, "damaged"),
    "torn pages": (_torn, "damaged"),
    "no table": (_sql("DROP TABLE attachment"), "damaged"),
    "no column": (_sql("ALTER TABLE attachment DROP COLUMN state"), "damaged"),
    "a row that says nothing": (_sql("UPDATE attachment SET ipv4 = 'none of this world'"), "damaged"),
    "no mode": (_sql("UPDATE attachment SET mode = ''"), "damaged"),
    "a state nobody knows": (_sql("UPDATE attachment SET state = 'floating'"), "damaged"),
    "no groups": (_sql("UPDATE eni SET security_groups = '7'"), "damaged"),
    "a newer release": (_sql("PRAGMA user_version = 99; UPDATE compatible SET since = 98"), "newer"),
    "a newer one that says nothing": (_sql("PRAGMA user_version = 99; DROP TABLE compatible"), "newer"),
}


LATER_WORDS = (
    "UPDATE attachment SET mode = 'teleport', uplink_kind = 'wormhole'",
    "UPDATE eni SET kind = 'wormhole'",
    "UPDATE operation SET eni_kind = 'wormhole'",
)


@pytest.mark.parametrize("words", LATER_WORDS)
def test_words_of_a_later_release_are_read_and_kept(tmp_path: Path, words: str) -> None:
    """A node that was rolled back: whose pods these are is known, and the later release finds them again."""
    path = tmp_path / "l.db"
    first = SqliteLedger(path)
    first.write(ALL)
    first.close()
    _sql(words)(path)
    ledger = SqliteLedger(path)
    found = ledger.load()
    assert ledger.moved_aside == ""
    ledger.write(Changes(found.enis, found.addresses, found.attachments, found.operations))
    ledger.close()
    with closing(sqlite3.connect(path)) as db:
        table, _, rest = words.removeprefix("UPDATE ").partition(" SET ")
        where = rest.replace(", ", " AND ")
        assert db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone() == (1,)


@pytest.mark.parametrize("what", FOUND)
def test_it_is_set_aside_and_a_new_one_begun(tmp_path: Path, what: str) -> None:
    path = tmp_path / "l.db"
    first = SqliteLedger(path)
    first.write(ALL)
    first.write(Changes(attachments=tuple(_others(200))))
    assert first.moved_aside == ""
    first.close()
    spoil, word = FOUND[what]
    spoil(path)
    spoilt = path.read_bytes()
    ledger = SqliteLedger(path)
    assert ledger.load() == Snapshot()
    aside = tmp_path / f"l.db.{word}-1"
    assert aside.read_bytes() == spoilt, "what was in it is kept"
    assert str(aside) in ledger.moved_aside
    ledger.write(ALL)
    ledger.close()
    again = SqliteLedger(path)
    assert again.load().attachments == (ATTACHMENT,)
    assert again.moved_aside == ""
    again.close()


def _others(count: int) -> list[AttachmentRecord]:
    return [replace(ATTACHMENT, key=AttachmentKey(f"{n:064x}", "eth0")) for n in range(count)]


def test_a_newer_file_that_only_has_more_is_read_and_written(tmp_path: Path) -> None:
    """As the release after this one will leave it on a roll-back: its own columns are its own."""
    path = tmp_path / "l.db"
    first = SqliteLedger(path)
    first.write(ALL)
    first.close()
    _sql(
        """
        ALTER TABLE attachment ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';
        UPDATE attachment SET colour = 'red';
        CREATE TABLE shade (of TEXT);
        PRAGMA user_version = 3;
        """
    )(path)
    ledger = SqliteLedger(path)
    assert ledger.moved_aside == ""
    assert ledger.load().attachments == (ATTACHMENT,)
    other = replace(ATTACHMENT, key=AttachmentKey("d" * 64, "eth0"))
    ledger.write(Changes(attachments=(other,)))
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert dict(db.execute("SELECT container_id, colour FROM attachment")) == {
            KEY.container_id: "red",
            "d" * 64: "grey",
        }
        assert db.execute("PRAGMA user_version").fetchone() == (3,), (
            "the newer one's steps are not taken again"
        )


def test_a_few_are_kept(tmp_path: Path) -> None:
    """A disk that damages one file may damage every one: it is not filled with them."""
    path = tmp_path / "l.db"
    for n in range(KEPT_ASIDE + 3):
        path.write_bytes(b"damage %d " % n * 50)
        os.utime(path, (n, n))
        SqliteLedger(path).close()
    kept = {each.read_bytes()[:8] for each in tmp_path.glob("l.db.damaged-*")}
    assert kept == {b"damage %d" % n for n in range(3, KEPT_ASIDE + 3)}


def test_a_copy_is_whole(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "l.db")
    ledger.write(ALL)
    copy = Path(ledger.keep_copy("older"))
    assert copy.stat().st_mode & 0o777 == 0o600
    ledger.write(Changes(gone_attachments=(KEY,)))
    other = SqliteLedger(tmp_path / "elsewhere" / "l.db")
    other.close()
    copy.rename(tmp_path / "elsewhere" / "l.db")
    other = SqliteLedger(tmp_path / "elsewhere" / "l.db")
    assert other.load().attachments == (ATTACHMENT,)
    other.close()
    ledger.close()


def test_an_operators_own_copies_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    copies = [tmp_path / f"l.db.backup-{day}" for day in range(20251201, 20251208)]
    for copy in copies:
        copy.write_bytes(b"an operator's")
    ledger = SqliteLedger(path)
    ledger.begin_anew(ledger.load(), aside="other-node")
    ledger.keep_copy("older")
    ledger.close()
    assert all(copy.exists() for copy in copies)
