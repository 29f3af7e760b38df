"""Real disks that take no more: the error names the true cause, the file and what to do about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_HEAD = """
import os, pathlib, resource, signal, sys
from dataclasses import replace
from ipaddress import IPv4Address
from control.model.errors import LedgerError
from control.model.ids import AttachmentKey
from control.model.records import Changes
from lab.nodes.syscalls import Mount, Namespace, mount, unshare
from tests.contract.store.test_ledger import ALL, ATTACHMENT, SqliteLedger

directory = pathlib.Path(sys.argv[1])
path = directory / "terway.db"
many = Changes(attachments=tuple(
    replace(ATTACHMENT, key=AttachmentKey(f"{i:064x}", "eth0")) for i in range(200)))

def tmpfs(size):
    unshare(Namespace.MOUNT)
    mount("none", "/", "", Mount.RECURSIVE | Mount.PRIVATE, "")
    mount("tmpfs", str(directory), "tmpfs", Mount.NOSUID, f"size={size}")

def fill():
    with open(directory / "ballast", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

def say(work):
    try:
        work()
    except LedgerError as exc:
        print(exc)
    else:
        print("done")
"""


def told(directory: Path, body: str) -> list[str]:
    """The lines that ``body`` says, in a process and a mount namespace of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + body, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_full_disk(tmp_path: Path) -> None:
    """Not "cannot rollback": SQLite has ended the transaction by itself."""
    first, again, after = told(
        tmp_path,
        """
tmpfs("256k")
ledger = SqliteLedger(path)
ledger.write(ALL)
fill()
say(lambda: ledger.write(many))
say(lambda: ledger.remember("fact", "x" * 9000))
os.unlink(directory / "ballast")
say(lambda: ledger.write(many))
assert len(ledger.load().attachments) == 201
""",
    )
    for line in (first, again):
        assert "could not write" in line, line
        assert f"{tmp_path}/terway.db" in line, line
        assert "disk is full" in line, line
        assert f"free space there (see `df {tmp_path}`)" in line, line
        assert "rollback" not in line, line
    assert after == "done"


def test_full_disk_does_not_stop_a_start(tmp_path: Path) -> None:
    """After a clean end and after a SIGKILL, which leaves the log behind."""
    said = told(
        tmp_path,
        """
tmpfs("256k")
ledger = SqliteLedger(path)
ledger.write(ALL)
ledger.close()
fill()
ledger = SqliteLedger(path)
assert ledger.load().attachments == (ATTACHMENT,)
ledger.close()
os.unlink(directory / "ballast")
child = os.fork()
if child == 0:
    SqliteLedger(path).write(many)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
fill()
assert len(SqliteLedger(path).load().attachments) == 201
print("started")
""",
    )
    assert said == ["started"]


def test_a_full_disk_does_not_stop_an_upgrade(tmp_path: Path) -> None:
    """A step to the next schema needs room: until there is some, what is in the file is known anyway."""
    said = told(
        tmp_path,
        """
from tests.contract.store.test_schemas import written
tmpfs("64k")
written(1, path)
fill()
ledger = SqliteLedger(path)
assert ledger.moved_aside == ""
assert {a.pod.name for a in ledger.load().attachments} == {"web-0", "db-0"}
say(lambda: ledger.remember("a", "b"))
os.unlink(directory / "ballast")
say(lambda: ledger.remember("a", "b"))
ledger.close()
ledger = SqliteLedger(path)
assert ledger.load().facts["a"] == "b"
assert len(ledger.load().attachments) == 2
""",
    )
    assert "disk is full" in said[0]
    assert said[1] == "done"


def test_disk_that_turned_read_only(tmp_path: Path) -> None:
    """A start knows what is there, with what a killed daemon left in the log; writes follow the disk."""
    refused, again, done = told(
        tmp_path,
        """
tmpfs("256k")
child = os.fork()
if child == 0:
    SqliteLedger(path).write(ALL)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
mount("none", str(directory), "", 0x20 | Mount.READ_ONLY, "")
mount("tmpfs", "/dev/shm", "tmpfs", 0, "")
ledger = SqliteLedger(path)
assert ledger.load().attachments == (ATTACHMENT,)
assert os.listdir("/dev/shm")
say(lambda: ledger.write(many))
say(lambda: ledger.remember("fact", "x"))
assert ledger.load().attachments == (ATTACHMENT,)
mount("none", str(directory), "", 0x20, "")
say(lambda: ledger.write(many))
assert not os.listdir("/dev/shm")
ledger.close()
assert len(SqliteLedger(path).load().attachments) == 201
""",
    )
    for line in (refused, again):
        assert f"could not write the ledger {tmp_path}/terway.db" in line
        assert "is read-only: mount it writable" in line
    assert done == "done"


def test_the_copy_of_a_daemon_that_was_killed_is_the_next_ones_to_remove(tmp_path: Path) -> None:
    """It is in memory: one that is killed again and again would fill it."""
    told(
        tmp_path,
        """
tmpfs("256k")
ledger = SqliteLedger(path)
ledger.write(ALL)
ledger.close()
mount("none", str(directory), "", 0x20 | Mount.READ_ONLY, "")
mount("tmpfs", "/dev/shm", "tmpfs", 0, "")
foreign = pathlib.Path("/dev/shm/terway-ledger-another-nodes")
foreign.mkdir()
for _ in range(3):
    child = os.fork()
    if child == 0:
        kept = SqliteLedger(path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
assert len(list(foreign.parent.iterdir())) == 2
ledger = SqliteLedger(path)
assert ledger.load().attachments == (ATTACHMENT,)
ledger.close()
assert list(foreign.parent.iterdir()) == [foreign]
""",
    )


def test_second_daemon_on_a_disk_that_turned_read_only(tmp_path: Path) -> None:
    (said,) = told(
        tmp_path,
        """
tmpfs("256k")
SqliteLedger(path).close()
mount("none", str(directory), "", 0x20 | Mount.READ_ONLY, "")
first = SqliteLedger(path)
say(lambda: SqliteLedger(path))
first.close()
SqliteLedger(path).close()
""",
    )
    assert "another terwayd may hold it" in said


def test_read_only_filesystem_without_a_ledger(tmp_path: Path) -> None:
    (said,) = told(
        tmp_path,
        """
tmpfs("256k")
mount("none", str(directory), "", 0x20 | Mount.READ_ONLY, "")
say(lambda: SqliteLedger(path))
""",
    )
    assert f"{tmp_path}/terway.db" in said
    assert "is read-only: mount it writable" in said


def test_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """As a quota: the write fails, and not for want of space."""
    (said,) = told(
        tmp_path,
        """
ledger = SqliteLedger(path)
ledger.write(ALL)
resource.setrlimit(resource.RLIMIT_FSIZE, (40960, 40960))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
say(lambda: ledger.write(many))
""",
    )
    assert "could not write" in said
    assert "quota" in said
    assert "rollback" not in said


def test_no_descriptors_left(tmp_path: Path) -> None:
    (said,) = told(
        tmp_path,
        """
SqliteLedger(path).close()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
say(lambda: SqliteLedger(path))
""",
    )
    assert "could not open" in said
    assert "descriptors left" in said


def test_a_page_that_was_overwritten(tmp_path: Path) -> None:
    (said,) = told(
        tmp_path,
        """
ledger = SqliteLedger(path)
ledger.write(many)
ledger.close()
size = path.stat().st_size
with open(path, "r+b") as file:
    file.seek(4096)
    file.write(b"\\xff" * (size - 4096))
say(lambda: SqliteLedger(path).load())
""",
    )
    assert said == "done"
    assert list(tmp_path.glob("terway.db.damaged-1*")), "what was in it is kept"


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    (said,) = told(tmp_path, 'say(lambda: SqliteLedger(directory / "state" / "terway.db"))')
    assert "is a directory that terwayd may write" in said
