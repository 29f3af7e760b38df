"""What happens to the file while it is open: noticed by a look that costs nothing, and written anew."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from control.model.errors import LedgerError
from control.model.ids import AttachmentKey
from control.model.records import Changes, Snapshot
from control.store.ledger import LedgerTaken, SqliteLedger
from tests.contract.store.test_history import ONE
from tests.contract.store.test_ledger import ALL, ATTACHMENT
from tests.contract.store.test_ledger_disk import told

MORE = tuple(replace(ATTACHMENT, key=AttachmentKey(f"{n:064x}", "eth0")) for n in range(300))


def _file(path: Path) -> None:
    path.unlink()


def _log(path: Path) -> None:
    path.with_name("l.db-wal").unlink()


def _directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def _moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def _file_moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def _replaced(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(b"somebody's")
    copy.rename(path)


def _log_replaced(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(b"somebody's")
    copy.rename(path.with_name("l.db-wal"))


def _cut(path: Path) -> None:
    os.truncate(path, 512)


def _log_cut(path: Path) -> None:
    os.truncate(path.with_name("l.db-wal"), 100)


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_file_for_the_directory(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("")


HANDS: tuple[Callable[[Path], None], ...] = (
    _file,
    _log,
    _directory,
    _moved,
    _file_moved,
    _replaced,
    _log_replaced,
    _cut,
    _log_cut,
    _a_directory,
)


def opened(directory: Path) -> SqliteLedger:
    """With something in the file as well as in its log."""
    path = directory / "state" / "l.db"
    SqliteLedger(path).close()
    ledger = SqliteLedger(path)
    ledger.write(ALL)
    ledger.write(Changes(attachments=MORE, history=(ONE,)))
    assert ledger.missing() == ""
    return ledger


@pytest.mark.parametrize("hand", [_cut, _log_cut])
def test_a_cut_before_the_first_look_is_noticed(tmp_path: Path, hand: Callable[[Path], None]) -> None:
    path = tmp_path / "state" / "l.db"
    SqliteLedger(path).close()
    ledger = SqliteLedger(path)
    ledger.write(ALL)
    hand(path)
    assert "was cut" in ledger.missing()
    ledger.close()


@pytest.mark.parametrize("hand", HANDS)
def test_it_is_noticed_and_nothing_is_lost(tmp_path: Path, hand: Callable[[Path], None]) -> None:
    ledger = opened(tmp_path)
    path = tmp_path / "state" / "l.db"
    known = ledger.load()
    hand(path)
    assert str(path.parent) in ledger.missing()
    ledger.begin_anew(known)
    assert ledger.missing() == ""
    late = replace(ATTACHMENT, key=AttachmentKey("late", "eth0"))
    ledger.write(Changes(attachments=(late,)))
    assert ledger.missing() == ""
    child = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], check=False, capture_output=True, text=True
    )
    assert "another terwayd" in child.stderr, "it is locked as before"
    ledger.close()
    again = SqliteLedger(path)
    assert again.moved_aside == ""
    assert len(again.load().attachments) == len(known.attachments) + 1
    assert again.load().enis == known.enis
    if hand not in (_cut, _log_cut):
        assert again.history(ONE.address) == (ONE,)
    again.close()


_READ = """
import pathlib, sys
from control.store.ledger import SqliteLedger
SqliteLedger(pathlib.Path(sys.argv[1]))
"""


def test_what_is_found_there_is_kept(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    path = tmp_path / "state" / "l.db"
    _replaced(path)
    aside = ledger.begin_anew(ledger.load())
    assert Path(aside).read_bytes() == b"somebody's"
    ledger.close()


def test_the_ledger_of_another_node_is_whole_where_it_is_set_aside(tmp_path: Path) -> None:
    """Its log is put into it first: what is set aside is one file that can be read."""
    ledger = opened(tmp_path)
    aside = Path(ledger.begin_anew(Snapshot(facts={"kept": "1"}), aside="other-node"))
    assert ledger.load() == Snapshot(facts={"kept": "1"})
    assert ledger.history(ONE.address) == (), "that is another node's past"
    ledger.close()
    other = SqliteLedger(_carried(aside, tmp_path / "other" / "l.db"))
    assert len(other.load().attachments) == len(MORE) + 1
    assert other.history(ONE.address) == (ONE,)
    other.close()


def _carried(source: Path, target: Path) -> Path:
    target.parent.mkdir()
    source.rename(target)
    return target


@pytest.mark.parametrize("hand", [_a_file_for_the_directory])
def test_what_cannot_be_written_is_said_and_tried_again(tmp_path: Path, hand: Callable[[Path], None]) -> None:
    ledger = opened(tmp_path)
    known = ledger.load()
    hand(tmp_path / "state" / "l.db")
    for _ in range(2):
        assert ledger.missing()
        with pytest.raises(LedgerError, match="is a directory that terwayd may write"):
            ledger.begin_anew(known)
    (tmp_path / "state").unlink()
    ledger.begin_anew(known)
    assert ledger.missing() == ""
    ledger.close()


def test_another_agent_in_the_new_directory_is_left_alone(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    known = ledger.load()
    _moved(tmp_path / "state" / "l.db")
    other = SqliteLedger(tmp_path / "state" / "l.db")
    other.write(ALL)
    with pytest.raises(LedgerError):
        ledger.begin_anew(known)
    assert len(other.load().attachments) == 1
    other.close()
    ledger.begin_anew(known)
    assert len(ledger.load().attachments) == len(MORE) + 1
    ledger.close()


def test_damage_that_a_write_meets_is_a_loss(tmp_path: Path) -> None:
    """Pages overwritten in place: neither inode nor size tells."""
    opened(tmp_path).close()
    path = tmp_path / "state" / "l.db"
    ledger = SqliteLedger(path)
    known = ledger.load()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    ledger._db.execute("PRAGMA cache_size=1")
    ledger._db.execute("PRAGMA shrink_memory")
    assert ledger.missing() == ""
    with pytest.raises(LedgerError, match="within seconds"):
        ledger.write(ALL)
    assert "malformed" in ledger.missing()
    assert ledger.begin_anew(known) == f"{path}.damaged-1"
    ledger.write(ALL)
    assert ledger.missing() == ""
    assert len(ledger.load().attachments) == len(MORE) + 1
    ledger.close()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        """
tmpfs("512k")
ledger = SqliteLedger(path)
ledger.write(many)
known = ledger.load()
os.unlink(path)
fill()
assert ledger.missing()
say(lambda: ledger.begin_anew(known))
say(lambda: ledger.remember("a", "b"))
assert ledger.load().attachments == known.attachments
os.unlink(directory / "ballast")
say(lambda: ledger.begin_anew(known))
say(lambda: ledger.remember("a", "b"))
assert ledger.missing() == ""
ledger.close()
assert len(SqliteLedger(path).load().attachments) == 200
""",
    )
    assert "disk is full" in said[0]
    assert said[-2:] == ["done", "done"]


def test_a_death_in_the_middle_leaves_a_ledger_or_none(tmp_path: Path) -> None:
    """Never half of one: the new file has its name only once it is whole."""
    for step in range(40):
        directory = tmp_path / f"{step}"
        child = subprocess.run([sys.executable, "-c", _DIES, str(directory), str(step)], check=False)
        path = directory / "state" / "l.db"
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        ledger = SqliteLedger(path)
        assert ledger.moved_aside == ""
        assert len(ledger.load().attachments) in (0, len(MORE) + 1)
        ledger.close()
    else:
        raise AssertionError("it never came to its end")
    assert step > 3


_DIES = """
import os, pathlib, signal, sys
from tests.contract.store.test_lost_under_the_agent import opened
left = int(sys.argv[2])
ledger = opened(pathlib.Path(sys.argv[1]))
known = ledger.load()
(pathlib.Path(sys.argv[1]) / "state" / "l.db").unlink()
def step(frame, event, arg):
    global left
    if event == "c_call" and arg.__name__ in ("rename", "open", "unlink", "connect", "execute", "close"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1 if arg.__name__ != "execute" else 0
sys.setprofile(step)
ledger.begin_anew(known)
sys.setprofile(None)
"""


def test_a_look_at_a_sound_one_changes_nothing(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for n in range(3000):  # several checkpoints of the log
        ledger.write(Changes(addresses=(replace(ALL.addresses[0], address=IPv4Address(n)),)))
        assert ledger.missing() == ""
    assert ledger.make_private() == ()
    ledger.close()


def test_what_was_opened_to_others_is_taken_back(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    path = tmp_path / "state" / "l.db"
    path.chmod(0o644)
    path.parent.chmod(0o755)
    assert ledger.make_private() == (f"{path.parent} had mode 755", f"{path} had mode 644")
    assert ledger.make_private() == ()
    assert ledger.missing() == ""
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    ledger.close()


def test_taken_is_the_lock_of_the_directory_that_is_there(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with pytest.raises(LedgerTaken):
        SqliteLedger(tmp_path / "state" / "l.db")
    ledger.close()


def test_a_place_that_cannot_be_looked_at_is_told_and_waited_for(tmp_path: Path) -> None:
    """Somebody has made the directory a link to itself: the path leads nowhere, which is no answer."""
    path = tmp_path / "state" / "l.db"
    ledger = SqliteLedger(path)
    known = ledger.load()
    path.parent.rename(tmp_path / "moved")
    path.parent.symlink_to(path.parent)
    assert "cannot be looked at" in ledger.missing()
    with pytest.raises(LedgerError, match="could not begin anew"):
        ledger.begin_anew(known)
    path.parent.unlink()
    ledger.begin_anew(known)
    assert ledger.missing() == ""
    ledger.close()
