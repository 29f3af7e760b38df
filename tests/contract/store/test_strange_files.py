"""What somebody has put where the ledger's file should be, and is none: no start hangs, and nothing of others
is altered."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control.agent.state.journal import Journal
from control.model.clock import SystemClock
from control.model.errors import LedgerError
from control.model.records import Changes, Ended, HistoryRecord
from control.store.ledger import SqliteLedger
from control.store.unread import UnreadLedger, open_ledger
from tests.contract.store.test_ledger import ADDRESS, ALL, ATTACHMENT, ENI, KEY


def _fifo(path: Path, _elsewhere: Path) -> None:
    os.mkfifo(path)


def _to_a_fifo(path: Path, elsewhere: Path) -> None:
    os.mkfifo(elsewhere / "fifo")
    path.symlink_to(elsewhere / "fifo")


def _socket(path: Path, _elsewhere: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _zeroes(path: Path, _elsewhere: Path) -> None:
    """A device takes every write, and forgets it."""
    path.symlink_to("/dev/zero")


def _to_itself(path: Path, _elsewhere: Path) -> None:
    path.symlink_to(path)


def _to_another_file(path: Path, elsewhere: Path) -> None:
    (elsewhere / "passwd").write_text("root:x:0:0\n" * 100)
    path.symlink_to(elsewhere / "passwd")


def _to_another_database(path: Path, elsewhere: Path) -> None:
    with contextlib.closing(sqlite3.connect(elsewhere / "state.db", isolation_level=None)) as db:
        db.executescript("CREATE TABLE kine (id INTEGER); INSERT INTO kine VALUES (7)")
    path.symlink_to(elsewhere / "state.db")


def _another_database(path: Path, _elsewhere: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript("CREATE TABLE kine (id INTEGER); INSERT INTO kine VALUES (7)")


STRANGE = [
    _fifo,
    _to_a_fifo,
    _socket,
    _zeroes,
    _to_itself,
    _to_another_file,
    _to_another_database,
    _another_database,
]


def _opened_in_time(path: Path) -> None:
    """A thread that hangs ends with the tests."""
    found: list[str] = []

    def work() -> None:
        try:
            SqliteLedger(path).close()
            found.append("")
        except Exception as exc:  # noqa: BLE001  # told below
            found.append(repr(exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    assert found == [""], found or "the opening hangs"


@pytest.mark.parametrize("strange", STRANGE)
def test_it_is_set_aside(tmp_path: Path, strange: Callable[[Path, Path], None]) -> None:
    directory, elsewhere = tmp_path / "terway", tmp_path / "elsewhere"
    directory.mkdir(mode=0o700)
    elsewhere.mkdir()
    path = directory / "l.db"
    strange(path, elsewhere)
    for each in elsewhere.iterdir():
        each.chmod(0o644)
    before = {p: (p.stat().st_mode, p.read_bytes() if p.is_file() else b"") for p in elsewhere.iterdir()}
    _opened_in_time(path)
    ledger = SqliteLedger(path)
    ledger.write(ALL)
    ledger.close()
    assert {p: (p.stat().st_mode, p.read_bytes() if p.is_file() else b"") for p in before} == before
    assert sorted(elsewhere.iterdir()) == sorted(before), "nothing was put beside it either"
    assert path.lstat().st_size, "a file of our own"
    word = "damaged" if strange is _another_database else "foreign"
    assert os.path.lexists(f"{path}.{word}-1")
    again = SqliteLedger(path)
    assert again.load().attachments == (ATTACHMENT,)
    again.close()


def test_a_ledger_that_an_operator_keeps_on_another_disk_is_used(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "terway", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    first = SqliteLedger(elsewhere / "l.db")
    first.write(ALL)
    first.close()
    (directory / "l.db").symlink_to(elsewhere / "l.db")
    ledger = SqliteLedger(directory / "l.db")
    assert ledger.load().attachments == (ATTACHMENT,)
    assert ledger.moved_aside == ""
    assert ledger.missing() == ""
    ledger.close()
    assert (directory / "l.db").is_symlink()


def test_a_disk_that_is_not_mounted_yet_is_waited_for(tmp_path: Path) -> None:
    """To begin anew would lose the ledger that comes with it."""
    directory, elsewhere = tmp_path / "terway", tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "l.db").symlink_to(elsewhere / "l.db")
    waiting = open_ledger(directory / "l.db")
    assert isinstance(waiting, UnreadLedger)
    with pytest.raises(LedgerError, match=r"l\.db leads to .*elsewhere/l\.db, where there is nothing"):
        waiting.look_again()
    elsewhere.mkdir()
    SqliteLedger(elsewhere / "l.db").close()
    SqliteLedger(directory / "l.db").close()


def test_files_beside_it_that_are_no_files(tmp_path: Path) -> None:
    """Where SQLite would have its log."""
    path = tmp_path / "terway" / "l.db"
    first = SqliteLedger(path)
    first.write(ALL)
    first.close()
    victim = tmp_path / "victim"
    victim.write_text("somebody's")
    victim.chmod(0o644)
    path.with_name("l.db-wal").symlink_to(victim)
    path.with_name("l.db-journal").mkdir()
    _opened_in_time(path)
    ledger = SqliteLedger(path)
    ledger.write(ALL)
    ledger.close()
    assert victim.read_text() == "somebody's"
    assert victim.stat().st_mode & 0o777 == 0o644
    again = SqliteLedger(path)
    assert again.load().attachments == (ATTACHMENT,)
    again.close()


STRANGE_ROWS = {
    "a time that is none": "UPDATE eni SET since = 'yesterday'",
    "another that is none": "UPDATE attachment SET made = 'x'",
    "a number that is none": "UPDATE eni SET vlan = 'many'",
    "bytes for a sandbox": "UPDATE attachment SET container_id = x'ff00'",
    "bytes for a fact": "INSERT INTO fact (name, value) VALUES ('boot_id', x'00ff')",
    "an owner with half a name": "UPDATE address SET container_id = 'c', ifname = NULL",
    "an operation on nothing": "UPDATE operation SET kind = 'assign', eni_id = NULL",
}


@pytest.mark.parametrize("statement", STRANGE_ROWS.values(), ids=STRANGE_ROWS)
def test_a_row_that_nobody_wrote_so_ends_no_start(tmp_path: Path, statement: str) -> None:
    """SQLite takes any value into any column; what is no ledger's is found when it is read, not later on."""
    path = tmp_path / "terway" / "l.db"
    first = SqliteLedger(path)
    first.write(ALL)
    first.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(statement).rowcount == 1
    ledger = SqliteLedger(path)
    assert Journal(ledger, SystemClock(), cooldown=1.0).probe()
    assert "was damaged" in ledger.moved_aside
    ledger.close()


def test_a_row_of_the_past_that_nobody_wrote_so_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    ledger = SqliteLedger(path)
    past = HistoryRecord(
        ADDRESS.address, ATTACHMENT.pod, "uid", KEY, ATTACHMENT.mode, ENI.eni_id, 1.0, 2.0, Ended.DELETED
    )
    ledger.write(Changes(history=(past, replace(past, until=3.0))))
    ledger.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute("UPDATE history SET until = 'x' WHERE until = 2").rowcount == 1
    again = SqliteLedger(path)
    assert again.history(ADDRESS.address) == (replace(past, until=3.0),)
    again.close()


def test_directories_beside_it_again_and_again(tmp_path: Path) -> None:
    """Each goes out of the way under a name of its own."""
    path = tmp_path / "terway" / "l.db"
    SqliteLedger(path).close()
    for n in range(3):
        path.with_name("l.db-journal").mkdir()
        (path.with_name("l.db-journal") / f"somebodys-{n}").touch()
        SqliteLedger(path).close()
    assert len(list(path.parent.glob("l.db.foreign-*-journal/somebodys-*"))) == 3
