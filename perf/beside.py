"""ADD and DEL of this tree beside another's, batch by batch in turn: ``./run perf beside TREE``.

Both trees' agents run the whole time, each in a lab of its own, and take turns of twenty ADDs and DELs, so
that a processor's clock, which a virtual machine does not hold still, is the same for both. Told are ratios
with their 95 % intervals: wall time as a runtime sees it (p50 of a batch), processor time of the agent, a
burst, the resident memory and the share of a core at rest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.add import machine
from perf.ratio import Ratio

BATCH = 20
BURST = 60
ROUNDS = 20
PRESENT = (0, 100)
REST = 30.0


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree's process, as it stands ready."""

    process: subprocess.Popen[str]

    def ask(self, what: str, count: int = 0) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"what": what, "count": count}) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of a tree ended with status {self.process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told


@contextmanager
def _started(path: Path, stack: str) -> Iterator[Tree]:
    text = Path(__file__).with_name("turn.py").read_text()
    argv = [str(path / ".cache/venv/bin/python"), "-c", text, stack]
    with subprocess.Popen(
        argv, cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        tree = Tree(process)
        tree.hear()
        yield tree


def _told(name: str, mine: Sequence[float], other: Sequence[float]) -> str:
    """``mine`` and ``other`` in ms, a figure per round."""
    medians = f"{statistics.median(other):8.3f}  {statistics.median(mine):8.3f} ms"
    return f"  {name:44}  {medians}  {Ratio.of(mine, other)}"


def _rounds(trees: Sequence[Tree], what: str, count: int, rounds: int) -> Iterator[str]:
    """Who is first changes from round to round."""
    samples: list[list[dict[str, Any]]] = [[], []]
    for number in range(rounds + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            answer = trees[which].ask(what, count)
            if number:  # the first makes the sandboxes
                samples[which].append(answer)
    for verb in ("ADD", "DEL"):
        mine, other = ([one[verb] for one in each] for each in samples)
        title = f"burst of {count}, wall" if what == "burst" else "one by one, p50"
        felt = _wall if what == "burst" else _p50
        yield _told(f"{verb}, {title}", [felt(s) for s in mine], [felt(s) for s in other])
        yield _told(f"  {verb}, the agent's processor time", _spent(mine), _spent(other))


def _wall(sample: dict[str, Any]) -> float:
    return float(sample["wall"]) * 1000


def _p50(sample: dict[str, Any]) -> float:
    return float(statistics.median(sample["seconds"])) * 1000


def _spent(samples: Sequence[dict[str, Any]]) -> list[float]:
    return [float(one["processor"]) * 1000 for one in samples]


def _rest(trees: Sequence[Tree]) -> Iterator[str]:
    before = [tree.ask("rest") for tree in trees]
    time.sleep(REST)
    after = [tree.ask("rest") for tree in trees]
    shares = [(b["processor"] - a["processor"]) / REST * 100 for a, b in zip(before, after, strict=True)]
    yield f"  {'at rest, % of a core':44}  {shares[1]:8.3f}  {shares[0]:8.3f}"
    yield f"  {'resident, MiB':44}  {after[1]['resident']:8.1f}  {after[0]['resident']:8.1f}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run perf beside", description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="a checkout in which ./run setup was called")
    parser.add_argument("--dual", action="store_true", help="an IPv4 and an IPv6 address per pod")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default %(default)s")
    args = parser.parse_args(argv)
    if not (args.tree / ".cache/venv/bin/python").exists():
        print(f"perf beside: {args.tree} has no environment; call ./run setup there", file=sys.stderr)
        return 2
    stack = "dual" if args.dual else "ipv4"
    here = Path(__file__).parents[1]
    print(f"{machine()}, {stack}; beside {args.tree.name}; {args.rounds} rounds of {BATCH}, 95 % intervals")
    print(f"  {'':44}  {'other':>8}  {'this':>8}      this / other")
    with _started(here, stack) as mine, _started(args.tree.absolute(), stack) as other:
        trees = (mine, other)
        for present in PRESENT:
            for tree in trees:
                tree.ask("present", present)
            print(f" {present} pods present", flush=True)
            for line in _rounds(trees, "batch", BATCH, args.rounds):
                print(line, flush=True)
        for line in _rounds(trees, "burst", BURST, max(3, args.rounds // 4)):
            print(line, flush=True)
        for line in _rest(trees):
            print(line, flush=True)
        for tree in trees:
            assert tree.process.stdin is not None
            tree.process.stdin.close()
    print(f"  load at the end {os.getloadavg()[0]:.1f}")
    return 0
