"""What the fast path costs an ADD: ``./run perf add-bpf``; what a change does to it: ``--against DIR``.

Two nodes of one lab, one with eBPF and one by routing alone, take turns within each round, so that a busy
moment of the machine hits both. With ``--against`` the second one's agent is that of another source tree,
such as a worktree of the commit before, whose C parts are built. Printed are medians and the ratio of the two
with a 95 % interval, of the time that a runtime waits, and of the processor's time in the agent, which a busy
machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.client import Lab
from lab.nodes import agent
from lab.spec import Delays, LabSpec, NodeSpec
from perf.add import BURST, POOL, TYPE, Runtime, await_idle, machine
from perf.ratio import Ratio

SOME = 10


@dataclass(frozen=True, slots=True)
class Way:
    """How the agent of one node is started; ``environment`` besides the usual one."""

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


ROUTED = {"ebpf": Way(("-bpf", "on")), "routed": Way(("-bpf", "off"))}


def _against(tree: str) -> dict[str, Way]:
    return {"this": Way(), "other": Way(environment={"PYTHONPATH": os.path.abspath(tree)})}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run perf add-bpf", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default %(default)s")
    parser.add_argument("--against", metavar="DIR", help="another source tree, in place of the routed node")
    args = parser.parse_args(argv)
    ways = _against(args.against) if args.against else ROUTED
    nodes = tuple(NodeSpec(name, TYPE) for name in ways)
    spec = LabSpec(nodes=nodes, delays=Delays(metadata=0.0, device=0.0, attach=0.0))
    print(machine())
    with Lab.start(spec, name=f"perf-{os.getpid()}") as lab:
        runtimes = {name: _started(lab, name, way) for name, way in ways.items()}
        _one_by_one(lab, runtimes, args.rounds)
        _bursts(lab, runtimes, max(3, args.rounds // 4))
    return 0


def _started(lab: Lab, name: str, way: Way) -> Runtime:
    node = lab.node(name)
    node.install_cni()
    node.write_config(agent.eni_conf(lab.spec, min_pool_size=POOL, max_pool_size=POOL, ip_cool_down="0s"))
    node.start_agent(way.arguments, env=way.environment)
    await_idle(node, POOL)
    return Runtime(lab, node)


def _one_by_one(lab: Lab, runtimes: dict[str, Runtime], rounds: int) -> None:
    some = {name: one.sandboxes(SOME, f"s-{name}") for name, one in runtimes.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for verb in ("ADD", "DEL"):
            for name, one in runtimes.items():
                await_idle(lab.node(name), SOME)
                before = _spent(lab, name)
                seconds = one.call(verb, "sequential", some[name])["seconds"]
                times.setdefault((f"{verb}'s processor", name), []).append(
                    (_spent(lab, name) - before) / SOME
                )
                times.setdefault((verb, name), []).append(statistics.median(seconds) * 1000)
    for verb in ("ADD", "ADD's processor", "DEL", "DEL's processor"):
        _show(f"{verb} one by one, ms", {name: times[verb, name] for name in runtimes})


def _spent(lab: Lab, name: str) -> float:
    """Milliseconds of a processor that the node's agent has had (Documentation/scheduler/sched-stats.rst)."""
    tasks = Path(f"/proc/{lab.node(name).agent_pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


def _bursts(lab: Lab, runtimes: dict[str, Runtime], rounds: int) -> None:
    all_of = {name: one.sandboxes(BURST, f"b-{name}") for name, one in runtimes.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for verb in ("ADD", "DEL"):
            for name, one in runtimes.items():
                await_idle(lab.node(name), BURST if verb == "ADD" else 0)
                wall = one.call(verb, "burst", all_of[name])["wall"]
                times.setdefault((verb, name), []).append(wall * 1000 / BURST)
    for verb in ("ADD", "DEL"):
        _show(f"{verb} in a burst of {BURST}, ms each", {name: times[verb, name] for name in runtimes})


def _show(title: str, times: Mapping[str, Sequence[float]]) -> None:
    middle = "  ".join(f"{name} {statistics.median(found):6.2f}" for name, found in times.items())
    print(f"  {title:36} {middle}  ratio {Ratio.of(*times.values())}")
