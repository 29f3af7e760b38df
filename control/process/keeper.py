"""Things on the node's disk that are made once and may be spoiled afterwards: looked after, put back, told.

A look compares what is with what should be and mends the difference. inotify wakes it, a round of ten
seconds comes in case a watch was lost. A hand that spoils a thing again and again is not run after: beyond a
few times in a row each mend waits twice as long as the one before, and what is wrong meanwhile is said.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from control.model.errors import TerwayError
from control.process.quiet_log import QuietLog
from control.process.timers import Timers
from control.process.watch_files import FileWatch

log = logging.getLogger(__name__)

ROUND = 10.0
"""Seconds between two looks that nothing has called for."""
SHORT_ROUND = 1.0
"""The same while something could not be put back, as a disk may have room again, and without inotify."""
DEBOUNCE = 0.03
"""Seconds from an event to the look: who writes a file makes several."""
FREE_MENDS = 3
"""Mends in a row that follow at once ..."""
FIRST_HOLD_OFF, MAX_HOLD_OFF = 0.5, 60.0
"""... and the seconds to wait before the next ones, doubled each time."""
QUIET_PERIOD = 120.0
"""Seconds without a mend after which the next one is the first again."""


class Kept(Protocol):
    """One thing. ``name`` is its label in metrics and events."""

    @property
    def name(self) -> str: ...

    @property
    def pods_need_it(self) -> bool:
        """While it cannot be put back the node is not ready."""
        ...

    @property
    def paths(self) -> tuple[Path, ...]:
        """What to watch."""
        ...

    def wrong(self) -> str:
        """What is not as it should be, in words; "" if all is. Changes nothing. May raise as ``mend``."""
        ...

    def mend(self) -> str:
        """Put it right, and say what was done. Raises OSError, or TerwayError with a remedy."""
        ...


class MustRestart(TerwayError):
    """Only a process that is started anew can have the thing again."""


@dataclass(slots=True)
class _Care:
    """What has become of one thing."""

    mends: int = 0
    streak: int = 0
    mended_at: float = float("-inf")
    not_before: float = 0.0
    trouble: str = ""
    quiet: QuietLog = field(default_factory=lambda: QuietLog(log))


Told = Callable[[Kept, str], None]


class Keeper:
    """``run`` for as long as the process lives; ``look`` is one look, now."""

    def __init__(self, told: Told, *, now: Callable[[], float] = time.monotonic) -> None:
        """``told`` hears of each thing what was wrong and what became of it, for an event."""
        self._told = told
        self._now = now
        self._cares: dict[Kept, _Care] = {}
        self._watch = FileWatch()
        self._listening: FileWatch | None = None
        self._wake = asyncio.Event()
        self._tried = False
        """Something was tried in vain during this look."""
        if self._watch.why:
            log.warning("files are looked at every %.0f s only: %s", SHORT_ROUND, self._watch.why)

    def add(self, thing: Kept) -> None:
        """Keep ``thing`` from now on: the next look mends it if need be. Twice is once."""
        self._cares.setdefault(thing, _Care())
        self._wake.set()

    def trouble(self) -> str:
        """What pods need and could not be put back, "" if all is well. For any thread."""
        return "; ".join(c.trouble for t, c in tuple(self._cares.items()) if t.pods_need_it and c.trouble)

    def mends(self) -> Mapping[str, int]:
        """By name: how often each was put right."""
        return {thing.name: care.mends for thing, care in tuple(self._cares.items())}

    def troubled(self) -> Mapping[str, bool]:
        return {thing.name: bool(care.trouble) for thing, care in tuple(self._cares.items())}

    async def run(self, timers: Timers) -> None:
        """Raises MustRestart, and nothing else."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._listen(loop)
                self.look()
                await self._pause(timers)
        finally:
            if self._watch.fileno() >= 0:
                loop.remove_reader(self._watch.fileno())
            self._watch.close()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """To inotify, once there is an instance for us: the node's are root's, and all are perhaps in use."""
        if self._watch.fileno() < 0:
            self._watch = FileWatch()
        if self._watch.fileno() >= 0 and self._listening is not self._watch:
            loop.add_reader(self._watch.fileno(), self._readable)
            self._listening = self._watch

    def look(self) -> None:
        # Watches first: what is spoiled during the look is heard of after it.
        self._watch.follow(path for thing in self._cares for path in thing.paths)
        for thing, care in tuple(self._cares.items()):
            try:
                self._look_at(thing, care)
            except MustRestart:
                raise
            except (OSError, TerwayError) as exc:
                self._in_trouble(thing, care, _text(thing, exc))
            except Exception as exc:  # a fault of ours with one thing must not end the care for the others
                log.exception("looking after %s failed in a way nobody foresaw", thing.name)
                self._in_trouble(thing, care, f"{thing.name}: {exc!r}")
        if self._tried:  # what it has made and removed beside the thing is no reason to try again at once
            self._watch.read()
            self._tried = False

    def _look_at(self, thing: Kept, care: _Care) -> None:
        wrong, now = thing.wrong(), self._now()
        if not wrong:
            if care.trouble:
                log.info("%s is as it should be again", thing.name)
            care.trouble = ""
            return
        if now < care.not_before:
            left = care.not_before - now
            care.trouble = (
                f"{wrong}; it was put right {care.streak} times in a row and spoiled again by somebody: "
                f"the next try is in {left:.0f} s; find out who does it"
            )
            return
        self._tried, before = True, self._tried
        done = thing.mend()
        self._tried = before
        care.streak = care.streak + 1 if now - care.mended_at < QUIET_PERIOD else 1
        care.mends, care.mended_at, care.trouble = care.mends + 1, now, ""
        doubled = min(max(care.streak - FREE_MENDS, 0), 16)
        care.not_before = now + (min(FIRST_HOLD_OFF * 2 ** (doubled - 1), MAX_HOLD_OFF) if doubled else 0.0)
        self._told(thing, f"{wrong}: {done}")
        care.quiet.warning(f"{wrong}: {done}")

    def _in_trouble(self, thing: Kept, care: _Care, text: str) -> None:
        if text != care.trouble:
            care.quiet.warning(text)
            self._told(thing, text)
        care.trouble = text

    def _readable(self) -> None:
        if self._watch.read():
            self._wake.set()

    async def _pause(self, timers: Timers) -> None:
        """Until something happens, a thing may be mended again, or the round is over."""
        now, cares = self._now(), self._cares.values()
        short = bool(self._watch.why) or any(care.trouble for care in cares)
        seconds = SHORT_ROUND if short else ROUND
        held = [care.not_before - now for care in cares if care.trouble and care.not_before > now]
        waking = asyncio.create_task(self._wake.wait())
        sleeping = asyncio.create_task(timers.sleep(min([seconds, *held])))
        try:
            await asyncio.wait({waking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
            if waking.done():
                await asyncio.sleep(DEBOUNCE)
        finally:
            for task in (waking, sleeping):
                task.cancel()
            await asyncio.gather(waking, sleeping, return_exceptions=True)
        self._wake.clear()


def _text(thing: Kept, exc: OSError | TerwayError) -> str:
    if isinstance(exc, TerwayError):
        return str(exc)
    where = exc.filename or ", ".join(map(str, thing.paths))
    return (
        f"{thing.name} cannot be put back: {exc.strerror or exc} ({os.fsdecode(where)}); "
        "make room on the disk, mount it writable, or remove what is in the way"
    )
