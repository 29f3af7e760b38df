"""Things that are spoiled: mended at once, told once per cause, and not run after for ever."""

from __future__ import annotations

import asyncio
import errno
import select
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control.model.clock import SystemClock
from control.process import keeper as keeping
from control.process.keeper import Keeper, Kept, MustRestart
from control.process.timers import Timers
from control.process.watch_files import ANY, FileWatch


@dataclass(eq=False)
class OnDisk:
    """A file whose content is "mine"."""

    path: Path
    name: str = "thing"
    pods_need_it: bool = True
    refusal: OSError | MustRestart | None = None
    mends: int = 0

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def wrong(self) -> str:
        return "" if self.path.exists() and self.path.read_text() == "mine" else f"{self.path} is spoiled"

    def mend(self) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.path.write_text("mine")
        self.mends += 1
        return "written anew"


@dataclass
class Site:
    clock: float = 1000.0
    told: list[tuple[str, str]] = field(default_factory=list)

    def keeper(self, *things: Kept) -> Keeper:
        made = Keeper(lambda thing, text: self.told.append((thing.name, text)), now=lambda: self.clock)
        for thing in things:
            made.add(thing)
        return made


@pytest.fixture
def site() -> Site:
    return Site()


def test_what_is_spoiled_is_mended_counted_and_told(site: Site, tmp_path: Path) -> None:
    thing = OnDisk(tmp_path / "a")
    keeper = site.keeper(thing)
    keeper.look()
    assert thing.path.read_text() == "mine"
    assert keeper.mends() == {"thing": 1}
    assert site.told == [("thing", f"{thing.path} is spoiled: written anew")]
    keeper.add(thing)
    keeper.look()
    assert keeper.mends() == {"thing": 1}, "twice is once"
    assert keeper.trouble() == ""


def test_what_cannot_be_mended_is_told_once_until_it_can(site: Site, tmp_path: Path) -> None:
    thing = OnDisk(tmp_path / "a", refusal=OSError(errno.ENOSPC, "No space left on device"))
    keeper = site.keeper(thing)
    for _ in range(5):
        keeper.look()
    assert "No space left on device" in keeper.trouble()
    assert str(thing.path) in keeper.trouble()
    assert len(site.told) == 1
    assert keeper.troubled() == {"thing": True}
    thing.refusal = None
    keeper.look()
    assert keeper.trouble() == ""
    assert len(site.told) == 2


@dataclass(eq=False)
class InTheWay(OnDisk):
    """A directory stands where the file should be: what is made beside it cannot take its name."""

    tries: int = 0

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path.with_name(ANY),)

    def wrong(self) -> str:
        return f"{self.path} is a directory"

    def mend(self) -> str:
        self.tries += 1
        fresh = self.path.with_name(".fresh")
        fresh.write_text("mine")
        try:
            fresh.rename(self.path)
        finally:
            fresh.unlink()
        return "written anew"


def test_a_try_in_vain_does_not_call_for_the_next_one(site: Site, tmp_path: Path) -> None:
    """It would be tried as fast as the disk writes, for as long as the directory stands there."""
    thing = InTheWay(tmp_path / "a")
    thing.path.mkdir()
    keeper = site.keeper(thing)
    keeper.look()
    assert thing.tries == 1
    assert "is a directory" in keeper.trouble() or "Is a directory" in keeper.trouble()
    assert not select.select([keeper._watch.fileno()], [], [], 0)[0]
    thing.path.rmdir()
    assert select.select([keeper._watch.fileno()], [], [], 0)[0], "what others do is heard of"


def test_what_no_pod_needs_does_not_make_the_node_unready(site: Site, tmp_path: Path) -> None:
    thing = OnDisk(tmp_path / "a", pods_need_it=False, refusal=OSError(errno.EROFS, "Read-only file system"))
    keeper = site.keeper(thing)
    keeper.look()
    assert keeper.trouble() == ""
    assert keeper.troubled() == {"thing": True}


def test_one_that_fails_keeps_nobody_else_from_being_mended(site: Site, tmp_path: Path) -> None:
    class Broken(OnDisk):
        def wrong(self) -> str:
            raise RuntimeError("a fault of ours")

    other = OnDisk(tmp_path / "b", "other")
    keeper = site.keeper(Broken(tmp_path / "a", "broken"), other)
    keeper.look()
    assert other.mends == 1
    assert "a fault of ours" in keeper.trouble()


def test_a_hand_in_a_loop_is_not_run_after(site: Site, tmp_path: Path) -> None:
    """A thousand times a second for ten minutes: a few mends at once, then ever fewer, and it is said."""
    thing = OnDisk(tmp_path / "a")
    keeper = site.keeper(thing)
    for _ in range(6000):
        thing.path.unlink(missing_ok=True)
        keeper.look()
        site.clock += 0.1
    assert keeping.FREE_MENDS < thing.mends < 25
    thing.path.unlink(missing_ok=True)
    keeper.look()
    assert "spoiled again by somebody" in keeper.trouble()
    site.clock += keeping.MAX_HOLD_OFF
    keeper.look()
    assert keeper.trouble() == ""
    site.clock += keeping.QUIET_PERIOD
    before = thing.mends
    for _ in range(keeping.FREE_MENDS):
        thing.path.unlink()
        keeper.look()
    assert thing.mends == before + keeping.FREE_MENDS, "after a quiet time it is at once again"


def running(site: Site, thing: OnDisk, timers: Timers) -> tuple[Keeper, asyncio.Task[None]]:
    made = site.keeper(thing)
    return made, asyncio.create_task(made.run(timers))


async def until_mended(thing: OnDisk, times: int) -> None:
    async with asyncio.timeout(30):
        while thing.mends < times:
            await asyncio.sleep(0.001)


def test_inotify_wakes_it(site: Site, tmp_path: Path) -> None:
    """By a clock that stands: no round comes."""

    class Never(Timers):
        async def sleep(self, seconds: float) -> None:
            del seconds
            await asyncio.Event().wait()

    async def scenario() -> None:
        thing = OnDisk(tmp_path / "run" / "a")
        thing.path.parent.mkdir()

        _, task = running(site, thing, Never(SystemClock()))
        await until_mended(thing, 1)
        thing.path.unlink()
        await until_mended(thing, 2)
        thing.path.write_text("another's")
        await until_mended(thing, 3)
        task.cancel()

    asyncio.run(scenario())


def test_without_inotify_rounds_are_short_until_there_is_an_instance(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instances of a node are root's, and all may be in use for a while."""
    taken = [True]
    made: list[FileWatch] = []

    class Scarce(FileWatch):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            if taken[0]:
                self.close()
                self.why = "no inotify: Too many open files"

    monkeypatch.setattr(keeping, "FileWatch", Scarce)

    async def scenario() -> None:
        thing, timers = OnDisk(tmp_path / "a"), Timers(SystemClock())
        _, task = running(site, thing, timers)
        await until_mended(thing, 1)
        thing.path.unlink()
        async with asyncio.timeout(30):
            while thing.mends < 2:
                timers.advance(keeping.SHORT_ROUND)
                await asyncio.sleep(0.001)
        taken[0] = False
        async with asyncio.timeout(30):
            while made[-1].fileno() < 0:
                timers.advance(keeping.SHORT_ROUND)
                await asyncio.sleep(0.001)
        thing.path.unlink()
        await until_mended(thing, 3)
        task.cancel()

    asyncio.run(scenario())


def test_what_only_a_new_process_can_have_ends_this_one(site: Site, tmp_path: Path) -> None:
    async def scenario() -> None:
        thing = OnDisk(tmp_path / "a", refusal=MustRestart("its directory was removed"))
        await site.keeper(thing).run(Timers(SystemClock()))

    with pytest.raises(MustRestart, match="was removed"):
        asyncio.run(scenario())
