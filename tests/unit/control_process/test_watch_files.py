"""What inotify tells of, and what is no reason to look."""

from __future__ import annotations

import gc
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control.process.keeper import Keeper
from control.process.watch_files import ANY, FileWatch


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    made = FileWatch()
    assert made.why == ""
    yield made
    made.close()


def heard(watch: FileWatch) -> bool:
    """inotify queues an event before the call that caused it returns: nothing has to be waited for."""
    readable, _, _ = select.select([watch.fileno()], [], [], 0)
    return bool(readable) and watch.read()


def _removed(path: Path) -> None:
    path.unlink()


def _altered(path: Path) -> None:
    path.write_text("other")


def _chmod(path: Path) -> None:
    path.chmod(0o600)


def _renamed(path: Path) -> None:
    path.rename(path.with_name("else"))


def _replaced(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text("new")
    fresh.rename(path)


def _directory_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def _directory_removed(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize(
    "hand",
    [_removed, _altered, _chmod, _renamed, _replaced, _directory_renamed, _directory_removed],
)
def test_what_happens_to_the_file_is_heard(
    tmp_path: Path, watch: FileWatch, hand: Callable[[Path], None]
) -> None:
    path = tmp_path / "run" / "thing"
    path.parent.mkdir()
    path.write_text("mine")
    watch.follow([path])
    assert not heard(watch)
    hand(path)
    assert heard(watch)
    assert not heard(watch), "what was heard is heard once"


def test_others_in_the_directory_are_no_reason(tmp_path: Path, watch: FileWatch) -> None:
    watch.follow([tmp_path / "thing"])
    (tmp_path / "other").write_text("x")
    assert not heard(watch)
    watch.follow([tmp_path / ANY])
    (tmp_path / "third").write_text("x")
    assert heard(watch)


def test_a_file_whose_directory_does_not_exist_yet(tmp_path: Path, watch: FileWatch) -> None:
    path = tmp_path / "run" / "thing"
    watch.follow([path])
    path.parent.mkdir()
    assert heard(watch)
    watch.follow([path])
    path.write_text("x")
    assert heard(watch)


def test_the_directory_that_stands_at_the_path_is_followed_and_not_the_one_that_did(
    tmp_path: Path, watch: FileWatch
) -> None:
    path = tmp_path / "run" / "thing"
    path.parent.mkdir()
    watch.follow([path])
    path.parent.rename(tmp_path / "before")
    path.parent.mkdir()
    assert heard(watch)
    watch.follow([path])
    (tmp_path / "before" / "thing").write_text("x")
    assert not heard(watch)
    path.write_text("x")
    assert heard(watch)


def test_a_queue_that_ran_over_counts_as_a_change(tmp_path: Path, watch: FileWatch) -> None:
    watch.follow([tmp_path / "thing"])
    room = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(room // 2 + 2):  # each is told of twice at least, and alike ones in a row once
        os.close(os.open(tmp_path / f"other{number % 2}", os.O_CREAT | os.O_WRONLY, 0o600))
        (tmp_path / f"other{number % 2}").unlink()
    assert heard(watch)


def test_without_instances_there_is_no_watch_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        def inotify_init1(self, _flags: int) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_a, **_k: Libc())
    none = FileWatch()
    assert none.why.startswith("no inotify")
    none.follow([Path("/etc/passwd")])
    assert not none.read()
    none.close()


def test_one_that_is_forgotten_keeps_no_instance() -> None:
    """A user has 128: a keeper that was made and never run took one for as long as the process lived."""

    def instances() -> int:
        links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return sum(os.path.lexists(each) and "inotify" in os.readlink(each) for each in links)

    before = instances()
    for _ in range(5):
        Keeper(lambda _thing, _text: None)
    gc.collect()
    assert instances() <= before
