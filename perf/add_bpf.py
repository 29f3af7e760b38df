"""What the fast path costs an ADD: ``./run perf add-bpf [--rounds N]``.

Two nodes of one lab, one with eBPF and one by routing alone, take turns within each round, so that a busy
moment of the machine hits both. Printed are medians and the ratio of the two with a 95 % interval.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence

from lab.client import Lab
from lab.nodes import agent
from lab.spec import Delays, LabSpec, NodeSpec
from perf.add import BURST, POOL, TYPE, Runtime, await_idle, machine
from perf.ratio import Ratio

WAYS = {"ebpf": "on", "routed": "off"}
SOME = 10


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run perf add-bpf", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default %(default)s")
    args = parser.parse_args(argv)
    nodes = tuple(NodeSpec(name, TYPE) for name in WAYS)
    spec = LabSpec(nodes=nodes, delays=Delays(metadata=0.0, device=0.0, attach=0.0))
    print(machine())
    with Lab.start(spec, name=f"perf-{os.getpid()}") as lab:
        runtimes = {name: _started(lab, name, bpf) for name, bpf in WAYS.items()}
        _one_by_one(lab, runtimes, args.rounds)
        _bursts(lab, runtimes, max(3, args.rounds // 4))
    return 0


def _started(lab: Lab, name: str, bpf: str) -> Runtime:
    node = lab.node(name)
    node.install_cni()
    node.write_config(agent.eni_conf(lab.spec, min_pool_size=POOL, max_pool_size=POOL, ip_cool_down="0s"))
    node.start_agent(["-bpf", bpf])
    await_idle(node, POOL)
    return Runtime(lab, node)


def _one_by_one(lab: Lab, runtimes: dict[str, Runtime], rounds: int) -> None:
    some = {name: one.sandboxes(SOME, f"s-{name}") for name, one in runtimes.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for verb in ("ADD", "DEL"):
            for name, one in runtimes.items():
                await_idle(lab.node(name), SOME)
                seconds = one.call(verb, "sequential", some[name])["seconds"]
                times.setdefault((verb, name), []).append(statistics.median(seconds) * 1000)
    for verb in ("ADD", "DEL"):
        _show(f"{verb} one by one, ms", times[verb, "ebpf"], times[verb, "routed"])


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
        _show(f"{verb} in a burst of {BURST}, ms each", times[verb, "ebpf"], times[verb, "routed"])


def _show(title: str, ebpf: Sequence[float], routed: Sequence[float]) -> None:
    middle = statistics.median(ebpf), statistics.median(routed)
    print(f"  {title:36} eBPF {middle[0]:6.2f}  routed {middle[1]:6.2f}  ratio {Ratio.of(ebpf, routed)}")
