"""TCP and UDP between pods: loopback, one veth, the fast path, routing, and the bridge and ptp plugins.

Both ends share one CPU, as a wake-up of another would cost more than the path. Time is that which they spend
on it together: by the clock on an idle machine, and on a busy one others' turns are not counted. The paths
take turns in an order that is new in each round, and a ratio is of one round; as the same path made anew may
differ by 0.015, by where its memory lies, all are made anew a few times. Printed is the median with a 95 %
interval from resampling the rounds. Nothing is asserted.
Needs root and gcc; for the plugins Debian's containernetworking-plugins.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from perf import paths, plugins
from perf.machine import commit, cpu
from perf.paths import LOOPBACK, ROUTED, Way
from perf.pingpong import Pingpong
from perf.series import Series

WORKLOADS = {"rr": "TCP_RR", "crr": "TCP_CRR", "stream": "TCP_STREAM", "udp": "UDP_RR"}
FAR_WORKLOADS = ("rr",)
BASES = (LOOPBACK, ROUTED, "ptp")
"""What the columns compare with: of times the ratio, of a stream the ratio of rates."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="./run perf datapath",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=10, help="of each build (default 10)")
    parser.add_argument("--builds", type=int, default=4, help="of all paths anew (default 4)")
    parser.add_argument("--seconds", type=float, default=0.15, help="of each measurement (default 0.15)")
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--only", choices=WORKLOADS, help="this workload alone")
    parser.add_argument("--table", action="store_true", help="print Markdown")
    options = parser.parse_args(argv)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {options.cpu})
    series = Series()
    try:
        for build in range(options.builds):
            ways = _measure(series, build, options)
    finally:
        os.sched_setaffinity(0, before)
    show = markdown if options.table else plain
    rounds = f"{options.builds} times {options.rounds} rounds of {options.seconds} s"
    for line in show(where(f"{rounds}, both ends on one CPU"), list(table_rows(ways, series))):
        print(line)
    return 0


def _measure(series: Series, build: int, options: argparse.Namespace) -> Sequence[Way]:
    """Build all paths, and add a series of rounds. Returns the paths."""
    order = random.Random(build)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tool = Pingpong(scratch)
        ways = [*paths.ways(stack, scratch), *plugins.ways(stack, scratch)]
        for netns in {way.server for way in ways}:
            stack.enter_context(tool.serving(netns))
        for _ in range(options.rounds):
            for workload in [options.only] if options.only else WORKLOADS:
                for way in order.sample(ways, len(ways)):
                    if way.near or workload in FAR_WORKLOADS:
                        series.add(workload, way.name, tool.run(workload, way, options.seconds))
    return ways


def table_rows(ways: Iterable[Way], series: Series) -> Iterator[tuple[str, ...]]:
    """Workload, path, median, and a ratio per base; a path off the node is compared with its own kind."""
    found = list(ways)
    for workload, title in WORKLOADS.items():
        for way in (one for one in found if (workload, one.name) in series.rates):
            bases = [LOOPBACK, ROUTED, "ptp"] if way.near else [LOOPBACK, f"{ROUTED}, off node", ""]
            ratios = (series.ratio(workload, way.name, base) for base in bases)
            figure = series.figure(workload, way.name)
            yield (title, way.name, figure, *("" if r is None else str(r) for r in ratios))


def where(measured: str) -> str:
    """The machine, the commit, how it was ``measured``, and whether peers are missing."""
    absent = ", ".join(plugins.missing())
    without = f"; without bridge and ptp, as {plugins.PACKAGE} is not installed ({absent})" if absent else ""
    return f"kernel {platform.release()}, {cpu()}, commit {commit()}, {measured}{without}"


_HEAD = ("workload", "path", "median", *(f"against {base}" for base in BASES))


def plain(origin: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield origin
    for row in (_HEAD, *rows):
        yield f"{row[0]:11}{row[1]:21}{row[2]:>11}  " + "".join(f"{cell:25}" for cell in row[3:]).rstrip()


def markdown(origin: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"{origin[:1].upper()}{origin[1:]}."
    yield "Of times the ratio, of a stream the ratio of rates; in brackets the 95 % interval.\n"
    for row in (_HEAD, ("---",) * 2 + ("---:",) * (len(_HEAD) - 2), *rows):
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.exit(main())
