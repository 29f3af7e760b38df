"""A run: steps one after another until the time is over or an invariant is broken, and what is told of it."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TextIO

from lab.client import take_down
from lab.messages import LabError
from lab.nodes import agent
from tests.soak import damage, facts, foreign, operations, weather, wire
from tests.soak.quiet import TRAFFIC, Broken, quiet
from tests.soak.resources import Gauge
from tests.soak.step import QUIET, Step, write
from tests.soak.world import World, world

STUCK = 1800.0
"""Seconds without the end of a step after which the run is given up: every wait of a step is shorter."""
_END = Step("end")
"""Follows the last step of a file."""
LAST = 25
"""Steps that a failure shows."""

VERBS: dict[str, Callable[..., str]] = {
    name: getattr(module, name)
    for module, names in (
        (
            operations,
            (
                "add",
                "delete",
                "add_many",
                "delete_many",
                "remake",
                "race",
                "hang_up",
                "check",
                "collect",
                "kill_agent",
                "kill_agent_at",
                "kill_worker",
            ),
        ),
        (
            weather,
            (
                "cloud_fault",
                "metadata_fault",
                "lag",
                "vswitch_full",
                "api_server_away",
                "disk_full",
                "clock",
                "good_weather",
            ),
        ),
        (
            damage,
            (
                "alter",
                "delete_link",
                "delete_netns",
                "lose_ledger",
                "spoil_socket",
                "detach_eni",
                "take_address",
            ),
        ),
        (foreign, ("add_foreign",)),
        (facts, ("node_address",)),
    )
    for name in names
}


@dataclass(slots=True)
class Run:
    """``where`` is the directory that a failure leaves its steps and logs in."""

    name: str
    seed: int
    seconds: float
    where: Path
    steps: int | None = None
    planned: bool = True
    """The seed's steps, not those of a file."""
    verbose: bool = False
    stuck: float = STUCK
    out: TextIO = field(default_factory=lambda: sys.stdout)
    taken: list[Step] = field(default_factory=list)
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST))
    _since: int = 0
    """Steps since the last quiet moment."""
    _began: float = field(default_factory=time.monotonic)
    _progress: float = field(default_factory=time.monotonic)
    _over: threading.Event = field(default_factory=threading.Event)

    def tell(self, text: str) -> None:
        print(text, file=self.out, flush=True)

    def go(self, steps: Iterable[Step]) -> int:
        """Exit status: 0 if every invariant held, 1 if not. The lab is gone afterwards."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        limit = f"{self.seconds / 60:.1f} min" if self.seconds < float("inf") else "until its steps end"
        self.tell(f"soak: seed {self.seed}, lab {self.name}, {limit}")
        try:
            with world(self.name) as made:
                return self._go(made, steps)
        finally:
            self._over.set()

    def _go(self, made: World, steps: Iterable[Step]) -> int:
        gauges = [Gauge(site) for site in made.sites]
        try:
            quiets = self._life(made, gauges, steps)
        except Broken as exc:
            return self._failed(made, exc.findings)
        except KeyboardInterrupt:
            raise
        except Exception as exc:  # noqa: BLE001  # a step that cannot be taken is a failure with its steps, too
            told = "".join(traceback.format_exception(exc)[-6:])
            return self._failed(made, [("a step can be taken", f"{exc}\n{told}")])
        self.tell(
            f"OK: {len(self.taken)} steps and {quiets} quiet moments in {self._elapsed():.0f} s, "
            f"seed {self.seed}"
        )
        return 0

    def _life(self, made: World, gauges: list[Gauge], steps: Iterable[Step]) -> int:
        """Quiet moments. The last step is one, also where the time is over before the first step."""
        quiets = 0
        for step in chain(steps, [_END]):
            over = step is _END or self._elapsed() >= self.seconds or len(self.taken) == self.steps
            if over and quiets and not self._since:
                break
            step = Step(QUIET) if over else step
            self.taken.append(step)
            self._take(made, gauges, step)
            quiets += step.verb == QUIET
            if over:
                break
        return quiets

    def _take(self, made: World, gauges: list[Gauge], step: Step) -> None:
        number, began = len(self.taken), self._elapsed()
        self._last.append(f"#{number} {began:.0f} s  {step}")
        if step.verb == QUIET:
            came = quiet(made, gauges, steps=self._since)
            self._since = 0
        else:
            self._revive(made)
            came = VERBS[step.verb](made, **step.values)
            self._since += 1
            self._steady(made)
        self._last[-1] += f" [{self._elapsed() - began:.1f} s]: {came}"
        self._progress = time.monotonic()
        if self.verbose or step.verb == QUIET:
            self.tell(self._last[-1])

    @staticmethod
    def _revive(made: World) -> None:
        """A DaemonSet's pod that has been killed at a point is there again before long."""
        for site in made.sites:
            if site.node.agent_pid is None and "kill" in site.causes:
                site.ensure_agent()

    @staticmethod
    def _steady(made: World) -> None:
        """The steady pods talk on through everything that is not done to them."""
        if any(site.causes & {"altered", "detached", "taken", "lag"} for site in made.sites):
            return
        lost = wire.silent(made.sites, [site.pods[0] for site in made.sites])
        if lost:
            raise Broken([(TRAFFIC, f"in the middle of it: {one}") for one in lost])

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _failed(self, made: World, findings: list[tuple[str, str]]) -> int:
        number, seconds = len(self.taken), self._elapsed()
        place = self.where / f"seed-{self.seed}"
        write(place / "steps.jsonl", self.taken)
        for site in made.sites:
            try:
                (place / f"{site.name}.log").write_text(site.node.read(agent.LOG))
            except (OSError, LabError) as exc:
                self.tell(f"the log of {site.name} is not kept: {exc}")
        self.tell(f"\nFAILED at step {number}, {seconds:.0f} s, seed {self.seed}. The last steps:")
        for line in self._last:
            self.tell(f"  {line}")
        self.tell("What does not hold:")
        for invariant, told in findings:
            self.tell(f"  {invariant}: {told}")
        self.tell(f"Steps and the agents' logs are in {place}")
        if self.planned:
            self.tell(f"Again: ./run soak --seed {self.seed} --steps {self._again()}")
        self.tell(f"{'   or' if self.planned else 'Again'}: ./run soak --replay {place / 'steps.jsonl'}")
        return 1

    def _again(self) -> int:
        """Steps of the seed that lead there again: the quiet moment at the end may not be the plan's."""
        return len(self.taken) - (self.taken[-1].verb == QUIET)

    def _watch(self) -> None:
        """Ends a run that hangs: its lab, and this process."""
        while not self._over.wait(1.0):
            if time.monotonic() - self._progress > self.stuck:
                self.tell(
                    f"FAILED: stuck for {self.stuck:.0f} s, seed {self.seed}, after: {[*self._last][-1:]}"
                )
                faulthandler.dump_traceback(file=sys.stderr)
                take_down(self.name)
                os._exit(1)
