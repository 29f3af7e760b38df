"""A cold ADD: ``./run perf cold [--count N]``. A fresh node each time, no ENI, the first pod.

The cloud is given no delays of its own, so what is seen is what the agent adds to the cloud's time: five
calls over HTTP, hot-plug, metadata, the kernel. The lab's own answers are part of it and are said beside.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from lab.client import Lab
from lab.nodes import agent
from lab.spec import Delays, LabSpec, NodeSpec
from perf.add import NAMESPACE, Row, machine


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run perf cold", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5, metavar="N", help="fresh nodes, default %(default)s")
    args = parser.parse_args(argv)
    spec = LabSpec(nodes=(), delays=Delays(metadata=0.0, device=0.0, attach=0.0))
    print(machine())
    cold, second = [], []
    with Lab.start(spec, name=f"perf-{os.getpid()}") as lab:
        for i in range(args.count):
            node = lab.add_node(NodeSpec(f"node{i}"))
            node.install_cni()
            node.write_config(agent.eni_conf(spec, max_pool_size=0))
            node.start_agent()
            cold.append(lab.add_pod(node.name, NAMESPACE, f"new-eni-{i}").add_seconds * 1000)
            second.append(lab.add_pod(node.name, NAMESPACE, f"assign-{i}").add_seconds * 1000)
            lab.remove_node(node.name)
    print(Row("ADD with a new ENI, cloud without delay", tuple(sorted(cold))).text())
    print(Row("ADD with one AssignPrivateIpAddresses", tuple(sorted(second))).text())
    return 0
