"""What may not grow: descriptors and memory of an agent, lines of its log.

Bounds are for one process: a restart begins anew. Each says what it allows for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.nodes import agent
from tests.soak import causes
from tests.soak.agreement import Finding
from tests.soak.site import Site

DESCRIPTORS = "descriptors do not grow"
MEMORY = "memory does not grow"
LOG = "log lines are bounded"
ALARM = "an alarm in the log has a cause"

MORE_SOCKETS = 12
"""Of one process between its first and a later quiet moment: kept-alive connections to metadata and API
server, a netlink socket per thread that worked, one pair to an SDK worker."""
MORE_OTHERS = 3
"""Of any other kind: an SDK worker's pidfd and pipe, an epoll instance. Pods hold none."""
WARM = 4
"""Quiet moments until everything that is loaded once has been loaded, and the heap has found its size."""
MORE_MIB = 12.0
"""Of proportional set size after that. Heaps without a leak wandered by 4 MiB in a quarter of an hour; what
keeps ten kilobytes per request has passed this after some 1,200 requests."""
LINES_PER_STEP = 20
"""A burst of eight ADDs that all fail says a line each, and the calls behind them as many. Runs without
a fault of ours had one line per step and node."""
LINES_PER_ROUND = 20
"""Of a quiet moment's minute."""
HUSH_EVERY = 4
"""Quiet moments of which one ends with a hush: all is in order, no clock is moved, nobody asks."""
HUSH = 6.0
"""Seconds, as absence cannot be waited for. On a slow machine, too, an agent without work has no lines."""
SAME_LINES = 3
"""Of one shape in a hush: the last words of work that has just ended."""

_BEGINS = re.compile(r"\d{4}-\d\d-\d\d ")
"""A line of the log that begins a record, with its time."""


@dataclass(slots=True)
class Gauge:
    """What was seen of one site's agents so far."""

    site: Site
    pid: int | None = None
    fds: dict[str, int] = field(default_factory=dict)
    """At the process's first quiet moment."""
    moments: int = 0
    warm_mib: float = 0.0
    mib: float = 0.0
    offset: int = 0
    """How far the log is read, in bytes."""

    def read_log(self) -> list[str]:
        """What the agent has said since the last time."""
        path = self.site.node.directory.outside(agent.LOG)
        with path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        self.offset += len(text)
        return text.decode(errors="replace").splitlines()

    @staticmethod
    def _records(lines: list[str]) -> Iterator[str]:
        """A traceback's lines belong to the line that they follow."""
        record = ""
        for line in lines:
            if record and not _BEGINS.match(line):
                record += f"\n    {line}"
                continue
            yield from (record,) if record else ()
            record = line
        yield from (record,) if record else ()

    def chatter(self) -> Iterator[Finding]:
        """For a hush: what an agent says again and again though nothing happens."""
        lines = self.read_log()
        yield from self._alarms(lines)
        shapes = Counter(_shapes(lines))
        for shape, times in shapes.items():
            if times > SAME_LINES:
                yield LOG, f"{self.site.name}: {times} times in {HUSH:g} s without any work: {shape!r}"

    def findings(self, *, steps: int, rounds: int) -> Iterator[Finding]:
        """For a quiet moment after so many steps, and so many minutes that went by on the clock."""
        lines = self.read_log()
        allowed = LINES_PER_STEP * steps + LINES_PER_ROUND * rounds
        if len(lines) > allowed:
            ((most, _),) = Counter(_shapes(lines)).most_common(1)
            told = (
                f"{self.site.name}: {len(lines)} lines in {steps} steps and {rounds} minutes, mostly {most!r}"
            )
            yield LOG, told
        yield from self._alarms(lines)
        yield from self._of_process()

    def _alarms(self, lines: list[str]) -> Iterator[Finding]:
        for record in self._records(lines):
            known = causes.link_went_first(record, self.site.linkless)
            if not known and causes.of_alarm(record, self.site.causes) == "":
                yield ALARM, f"{self.site.name}: {record}; causes were {sorted(self.site.causes)}"

    def _of_process(self) -> Iterator[Finding]:
        pid, fds = self.site.node.agent_pid, self.site.agent_fds()
        self.mib = _pss_mib(pid)
        if pid != self.pid:
            self.pid, self.fds, self.moments = pid, fds, 0
        self.moments += 1
        for kind, count in fds.items():
            more = count - self.fds.get(kind, 0)
            if more > (MORE_SOCKETS if kind == "socket" else MORE_OTHERS):
                told = f"{self.site.name}: {more} more of {kind} than {self.moments} quiet moments ago"
                yield DESCRIPTORS, told
        if self.moments == WARM:
            self.warm_mib = self.mib
        if self.moments > WARM and self.mib - self.warm_mib > MORE_MIB:
            told = f"{self.site.name}: {self.mib:.1f} MiB, {self.warm_mib:.1f} at quiet moment {WARM} of it"
            yield MEMORY, told


def _shapes(lines: list[str]) -> list[str]:
    """Lines without their time, cut to where they begin to differ."""
    return [line[24:80] for line in lines]


def _pss_mib(pid: int | None) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
