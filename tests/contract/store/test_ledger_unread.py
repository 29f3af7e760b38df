"""What stands in for a ledger that cannot be opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from control.model.errors import LedgerError
from control.model.records import Changes, Snapshot
from control.store.ledger import LedgerTaken, SqliteLedger
from control.store.unread import LedgerFound, UnreadLedger, open_ledger


def test_it_knows_nothing_takes_nothing_and_finds_the_ledger_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "l.db"
    path.parent.write_text("a file for the directory")
    ledger = open_ledger(path)
    assert isinstance(ledger, UnreadLedger)
    assert ledger.load() == Snapshot()
    attempts: tuple[Callable[[], None], ...] = (
        lambda: ledger.write(Changes()),
        lambda: ledger.remember("a", "b"),
        ledger.look_again,
    )
    for attempt in attempts:
        with pytest.raises(LedgerError, match="is a directory that terwayd may write") as said:
            attempt()
        assert not isinstance(said.value, LedgerFound)
    path.parent.unlink()
    with pytest.raises(LedgerFound, match="can be read again"):
        ledger.look_again()
    found = open_ledger(path)
    assert isinstance(found, SqliteLedger)
    with pytest.raises(LedgerTaken, match="another terwayd"):
        open_ledger(path)
    found.close()
    ledger.close()
