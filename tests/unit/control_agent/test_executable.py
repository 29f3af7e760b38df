"""The CNI executable in the runtime's directory: put back out of memory, whatever became of it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from control.agent.cni.executable import Executable, kept_executable
from control.process.keeper import Keeper

OURS = b"#!/bin/sh\necho ours\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "bin"
    made.mkdir()
    return made


def keeper_of(thing: Executable) -> Keeper:
    made = Keeper(lambda *_: None)
    made.add(thing)
    return made


def _deleted(path: Path) -> None:
    path.unlink()


def _mode(path: Path) -> None:
    path.chmod(0o644)


def _everybodys(path: Path) -> None:
    path.chmod(0o777)


def _another(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"#!/bin/sh\necho theirs\n")
    path.chmod(0o755)


def _same_size(path: Path) -> None:
    """Written over in place, with the times set back."""
    before = path.stat()
    path.write_bytes(OURS.replace(b"ours", b"hers"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _cut(path: Path) -> None:
    path.write_bytes(OURS[:5])


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/bin/true")


def _directory_of_its_name_gone(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize(
    "hand", [_deleted, _mode, _everybodys, _another, _same_size, _cut, _link, _directory_of_its_name_gone]
)
def test_it_is_put_back(directory: Path, hand: Callable[[Path], None]) -> None:
    keeper = keeper_of(Executable(OURS, directory))
    keeper.look()
    path = directory / "terway"
    assert subprocess.run([path], capture_output=True, check=True).stdout == b"ours\n"
    keeper.look()
    assert keeper.mends() == {"cni-executable": 1}
    hand(path)
    keeper.look()
    assert keeper.mends() == {"cni-executable": 2}
    assert keeper.trouble() == ""
    assert path.read_bytes() == OURS
    assert stat.S_IMODE(path.lstat().st_mode) == 0o755
    assert [one.name for one in directory.iterdir()] == ["terway"]


def test_who_executes_it_is_not_in_the_way(directory: Path) -> None:
    keeper = keeper_of(Executable(OURS, directory))
    path = directory / "terway"
    path.write_bytes(Path("/bin/sleep").read_bytes())
    path.chmod(0o755)
    with subprocess.Popen([path, "60"]) as running:
        keeper.look()
        assert path.read_bytes() == OURS
        running.kill()


def test_a_directory_in_its_place_is_not_removed(directory: Path) -> None:
    thing = Executable(OURS, directory)
    keeper = keeper_of(thing)
    (directory / "terway").mkdir()
    keeper.look()
    assert str(directory) in keeper.trouble()
    assert "is in the way" in keeper.trouble() or "in the way" in keeper.trouble()
    assert [one.name for one in directory.iterdir()] == ["terway"]


def _refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def opened(path: Path, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("control.agent.cni.executable.os.open", opened)


def test_a_full_disk_keeps_the_node_from_being_ready_until_there_is_room(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(Executable(OURS, directory))
    with monkeypatch.context() as patch:
        _refuse(patch, errno.ENOSPC)
        keeper.look()
        assert "No space left on device" in keeper.trouble()
    keeper.look()
    assert keeper.trouble() == ""


def test_another_one_on_a_read_only_mount_is_told_once_and_left(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the manifest of the release before has it, whose init container installs."""
    keeper = keeper_of(Executable(OURS, directory))
    _another(_there(directory))
    _refuse(monkeypatch, errno.EROFS)
    for _ in range(3):
        keeper.look()
    assert keeper.mends() == {"cni-executable": 1}
    assert keeper.trouble() == ""
    (directory / "terway").unlink()
    keeper.look()
    assert "Read-only file system" in keeper.trouble(), "without any executable no pod comes up"


def _there(directory: Path) -> Path:
    path = directory / "terway"
    path.touch()
    return path


def test_nothing_is_installed_where_no_runtime_looks(tmp_path: Path, directory: Path) -> None:
    source = tmp_path / "built"
    source.write_bytes(OURS)
    assert kept_executable(source, None) is None
    assert kept_executable(source, tmp_path / "absent") is None
    assert kept_executable(tmp_path / "not-built", directory) is None
    assert kept_executable(Path("/dev/null"), directory) is None
    assert kept_executable(source, directory) is not None
