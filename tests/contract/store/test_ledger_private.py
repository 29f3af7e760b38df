"""Who may read the ledger: its owner, and nobody else, whoever made the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.model.records import Changes
from control.store.ledger import SqliteLedger
from tests.contract.store.test_ledger import ADDRESS, ENI

_CUT_OFF = """
import os, signal, sys, time
from pathlib import Path
from control.store.ledger import SqliteLedger
ledger = SqliteLedger(Path(sys.argv[1]))
ledger.remember("fact", "kept")
print("written", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    """Of the directory, as ".", and of what is in it."""
    return {".": directory.stat().st_mode & 0o777} | {
        path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()
    }


def test_a_new_ledger_is_its_owners(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    ledger = SqliteLedger(directory / "terway.db")
    ledger.write(Changes(enis=(ENI,), addresses=(ADDRESS,)))
    found = modes(directory)
    ledger.close()
    assert "terway.db-wal" in found, "what was just written is there and not in the file"
    assert found == {name: 0o700 if name == "." else 0o600 for name in found}


def test_what_an_earlier_release_left_open_is_closed(tmp_path: Path) -> None:
    """With its WAL: after a SIGKILL every row is in that."""
    directory = tmp_path / "state"
    path = directory / "terway.db"
    with subprocess.Popen([sys.executable, "-c", _CUT_OFF, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    directory.chmod(0o755)
    for each in directory.iterdir():
        each.chmod(0o644)
    assert set(modes(directory)) >= {".", "terway.db", "terway.db-wal"}
    ledger = SqliteLedger(path)
    found, facts = modes(directory), ledger.load().facts
    ledger.close()
    assert facts == {"fact": "kept"}
    assert found == {name: 0o700 if name == "." else 0o600 for name in found}


def test_a_file_that_is_stricter_stays_so(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    SqliteLedger(directory / "terway.db").close()
    directory.chmod(0o500)
    try:
        SqliteLedger(directory / "terway.db").close()
        assert modes(directory)["."] == 0o500
    finally:
        directory.chmod(0o700)


def test_a_directory_that_is_everybodys_on_purpose_stays_so(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    ledger = SqliteLedger(shared / "l.db")
    assert ledger.make_private() == ()
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert (shared / "l.db").stat().st_mode & 0o777 == 0o600
    ledger.close()
