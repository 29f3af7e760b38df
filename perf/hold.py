"""How long a round of repair holds the agent's event loop: ``./run perf hold [--pods N] [--dual]``.

A node's namespace with one ENI and its pods, the real datapath and the agent's way of doing a round in steps;
no lab and no cloud. Told are the longest time for which the loop served nobody, by the wall and in processor
time of this thread (which a busy machine hardly changes), what a round takes (by which the share of a core
follows, as there is one every ten seconds), and ADD's kernel part one by one, in quiet and while
one round follows the other. A first round compares everything; the next ones find the kernel as it was.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import time
from collections.abc import Sequence
from functools import partial

import perf.kernel_add as kernel
from control.agent.dataplane.pace import SLICE, paced
from control.agent.reconcile.repair_rounds import PERIOD
from datapath.endpoint import Endpoint
from datapath.node_datapath import NodeDatapath
from perf.machine import commit, cpu

EXTRA = 40
"""Pods that come and go while the others stand."""
TICK = 0.0005
SETTLED = 5.0


class Holds:
    """The longest time between two turns of the event loop while ``watch`` runs, and the thread's in one."""

    def __init__(self) -> None:
        self.longest = self.longest_used = 0.0

    async def watch(self) -> None:
        while True:
            last, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, time.perf_counter() - last - TICK)
            self.longest_used = max(self.longest_used, time.thread_time() - used)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run perf hold", description=__doc__)
    parser.add_argument("--pods", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dual", action="store_true", help="with IPv6")
    options = parser.parse_args(argv)
    with kernel.bench(options.pods + EXTRA) as (datapath, pods):
        asyncio.run(_measured(datapath, pods, options))
    return 0


async def _measured(datapath: NodeDatapath, pods: Sequence[int], options: argparse.Namespace) -> None:
    make = partial(kernel.endpoint, dual=options.dual)
    standing = [make(number) for number in range(options.pods)]
    for one, netns in zip(standing, pods, strict=False):
        datapath.setup(one, netns)
    # New links get their link-local address a second later, and its check for doubles takes another.
    await asyncio.sleep(SETTLED)
    datapath.react()
    family = "IPv4+IPv6" if options.dual else "IPv4"
    print(f"kernel {platform.release()}, {cpu()}, commit {commit()}, {options.pods} pods, {family}")
    print(f"{'what':44}{'hold ms':>9}{'its CPU':>9}{'wall ms':>9}{'CPU ms':>9}")
    await _round(datapath, standing, "a round that compares everything")
    quiet = [await _round(datapath, standing, "") for _ in range(options.rounds)]
    _show("a round that finds all as it was, p50", *map(_median, zip(*quiet, strict=True)))
    share = _median([one[3] for one in quiet]) / (PERIOD * 1e3)
    began = time.perf_counter()
    datapath.carriers()
    print(f"{'which links live, as DEL and GC ask':44}{(time.perf_counter() - began) * 1e3:9.1f}")
    print(f"rounds at rest take {share:.2%} of a core; a slice is {SLICE * 1e3:.0f} ms")
    others = [(make(options.pods + n), pods[options.pods + n]) for n in range(EXTRA)]
    print(f"{'ADD (kernel part), p50 and p95, in quiet':44}{_quantiles(await _adds(datapath, others))}")
    rounds = asyncio.ensure_future(_for_ever(datapath, standing))
    print(f"{'the same while rounds follow each other':44}{_quantiles(await _adds(datapath, others))}")
    rounds.cancel()
    await asyncio.gather(rounds, return_exceptions=True)


async def _round(datapath: NodeDatapath, endpoints: Sequence[Endpoint], name: str) -> tuple[float, ...]:
    holds = Holds()
    watching = asyncio.ensure_future(holds.watch())
    await asyncio.sleep(2 * TICK)
    holds.longest = holds.longest_used = 0.0
    began, used = time.perf_counter(), time.process_time()
    await paced(datapath.repairing(endpoints))
    figures = (
        (time.perf_counter() - began) * 1e3,
        (time.process_time() - used) * 1e3,
    )
    await asyncio.sleep(2 * TICK)
    watching.cancel()
    told = (holds.longest * 1e3, holds.longest_used * 1e3, *figures)
    if name:
        _show(name, *told)
    return told


async def _for_ever(datapath: NodeDatapath, endpoints: Sequence[Endpoint]) -> None:
    while True:
        await paced(datapath.repairing(endpoints))
        await asyncio.sleep(0)


async def _adds(datapath: NodeDatapath, pods: Sequence[tuple[Endpoint, int]]) -> list[float]:
    """Milliseconds, each with four turns of the loop, as an ADD that is asked for and answered has."""
    times = []
    for one, netns in pods:
        began = time.perf_counter()
        for _ in range(3):
            await asyncio.sleep(0)
        datapath.setup(one, netns)
        await asyncio.sleep(0)
        times.append((time.perf_counter() - began) * 1e3)
        datapath.react()
        datapath.teardown(one, netns)
        await asyncio.sleep(0.01)
    datapath.flush()
    return sorted(times)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _quantiles(times: Sequence[float]) -> str:
    return f"{_median(times):10.2f}{times[int(len(times) * 0.95)]:10.2f} ms"


def _show(name: str, *figures: float) -> None:
    print(f"{name:44}" + "".join(f"{one:9.1f}" for one in figures))


if __name__ == "__main__":
    raise SystemExit(main())
