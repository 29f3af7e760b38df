"""What becomes of what a foreign hand changes or deletes of the agent's, under traffic.

Each alteration is done alone on its node: an object is deleted, altered, or another stands in its place.
Told is when it is as it was, the longest time in which some flow between pods had no answer, and how many
questions had none. What the kernel tells of is put back at once, the rest by the next round of repair, which
is ten seconds away at most. What is not put back in time is told with what a restart of the agent does about
it. Several nodes work on the list at once, each on an alteration of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence

from datapath.errors import KernelError
from lab.client import Lab
from lab.cni_call import CniError
from lab.messages import LabError
from lab.sandbox import LabPod
from lab.spec import LabSpec
from perf.drift import table
from perf.drift.catalogue import chosen, sampled
from perf.drift.item import Item
from perf.drift.scene import far_pod
from perf.drift.stage import Setting, Stage
from perf.drift.traffic import answering
from perf.drift.trial import LIMIT, NotAltered, Result, measure
from perf.machine import commit, cpu

LONG = 30
"""Minutes beyond which a run is announced as long."""
_MEAN = 15.0
"""Seconds of an alteration, those that take the whole limit among them."""
_FAILURES = (NotAltered, LabError, CniError, KernelError, OSError, subprocess.SubprocessError)


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    try:
        items = chosen(options.only, stack=options.ip_stack, bpf=options.bpf)
    except ValueError as exc:
        print(f"drift: {exc}", file=sys.stderr)
        return 2
    if options.sample:
        items = sampled(items, options.sample[0], int(options.sample[1]))
    if options.list:
        print("\n".join(table.listed(items)))
        return 0
    items = items * options.rounds
    _announce(len(items), options.nodes)
    run = Run(items, options)
    with Lab.start(LabSpec(nodes=()), name=f"drift-{os.getpid()}") as lab:
        run.over(lab)
    where = (
        f"kernel {platform.release()}, {cpu()}, commit {commit()}, ip_stack {options.ip_stack}, "
        f"eBPF {options.bpf}, {options.nodes} nodes at once"
    )
    for line in table.lines(where, run.results, run.failed, options.limit, markdown=options.table):
        print(line)
    return 1 if run.failed else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run perf drift",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: ./run perf drift --only 'rule-*' --only host-link-down",
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="NAME", help="this one; a pattern with * for several")
    add("--sample", nargs=2, metavar=("SEED", "N"), help="N of them, which SEED chooses")
    add("--list", action="store_true", help="the alterations, what is done and whom it harms; do nothing")
    add("--rounds", type=int, default=1, metavar="N", help="of each, default %(default)s")
    add("--nodes", type=int, default=6, metavar="N", help="at work at once, default %(default)s")
    add("--limit", type=float, default=LIMIT, metavar="S", help="seconds to wait, default %(default).0f")
    add("--bpf", choices=("on", "off"), default="on", help="default %(default)s")
    add("--ip-stack", choices=("dual", "ipv4"), default="dual", help="default %(default)s")
    add("--table", action="store_true", help="print Markdown")
    return parser.parse_args(argv)


def _announce(count: int, nodes: int) -> None:
    minutes = max(1, round(count * _MEAN / max(1, min(nodes, count)) / 60))
    told = f"{count} alterations on {min(nodes, count)} nodes, about {minutes} min"
    if minutes > LONG:
        told += "; --only NAME and --sample SEED N do less"
    print(f"[drift] {told}", file=sys.stderr, flush=True)


class Run:
    """Results in the order of their end. A node that is not whole after its alteration is made anew."""

    def __init__(self, items: Sequence[Item], options: argparse.Namespace) -> None:
        self._options = options
        self._total = len(items)
        self._waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
        for item in items:
            self._waiting.put(item)
        self._lock = threading.Lock()
        self.results: list[Result] = []
        self.failed: list[tuple[str, str]] = []
        """Names of alterations that could not be done, and why."""

    def over(self, lab: Lab) -> None:
        far = far_pod(lab, stack=self._options.ip_stack, bpf=self._options.bpf)
        count = min(self._options.nodes, self._total)
        with answering([far]):
            self._all(count, lab, far)

    def _all(self, count: int, lab: Lab, far: LabPod) -> None:
        workers = [threading.Thread(target=self._work, args=(lab, far), daemon=True) for _ in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, lab: Lab, far: LabPod) -> None:
        stage = Stage(lab, far, Setting(self._options.ip_stack, self._options.bpf))
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                stage.drop()
                return
            if not self._one(stage, item):
                stage.drop()

    def _one(self, stage: Stage, item: Item) -> bool:
        """Whether the node may serve again."""
        try:
            played = stage.play()
            result = measure(played.scene, item, played.traffic, limit=self._options.limit)
        except _FAILURES as exc:
            with self._lock:
                self.failed.append((item.name, str(exc)))
            return False
        with self._lock:
            self.results.append(result)
            done = len(self.results) + len(self.failed)
            told = table.summary(result, self._options.limit)
            print(f"[drift] {done}/{self._total} {item.name}: {told}", file=sys.stderr, flush=True)
        return result.whole
