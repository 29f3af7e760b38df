"""Many pods at once in a real cluster: ``./run perf pods [--pods N] [--rounds N] [--cloud-delay S]``.

Two clusters beside each other, one with terway as its DaemonSet and one with containernetworking's ptp and
host-local, take turns, after a round of one pod. Before a round each node is as empty as its CNI leaves it:
terway has at most ``max_pool_size`` addresses in store and gets all others from the cloud. Pods have one
pause container, no probe, no token; grace period 2 s. kubelet's own limits are the same for both: it looks at
its containers once per second, and its API client is limited to 50 requests per second.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from lab.client import Lab
from lab.kubernetes import cluster, product, stand_in
from lab.kubernetes.cluster import Wanted
from lab.kubernetes.readiness import await_available, await_nodes
from lab.kubernetes.wording import counted
from lab.messages import LabError
from lab.nodes import agent, cgroups
from lab.spec import LabSpec, NodeSpec
from perf import pods_table, remains
from perf.add import machine
from perf.burst import Burst, Moments

TYPE = "ecs.g7.4xlarge"
TERWAY, PTP = "terway", "ptp"
MOST_IDLE = 5
_DRAINED = 240.0
_PAUSE = 1.0
"""Each look at what is left starts ten programs."""


@dataclass(frozen=True, slots=True)
class Round:
    """``cpu``: seconds of processor that the nodes took to create and to delete. ``calls``: to the cloud."""

    moments: Moments
    cpu: tuple[float, float]
    calls: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    left: tuple[str, ...] = ()


@dataclass
class Contestant:
    name: str
    lab: Lab
    per_node: int
    ignored: frozenset[str] = frozenset()
    """What is not waited for, of ``perf.remains``."""
    before: dict[str, remains.Counts] = field(default_factory=dict)

    def round(self) -> Round:
        """Create, delete, and wait until nodes are empty again. Raises LabError."""
        self.lab.cloud.reset_calls()
        self.before = self._counts()
        marks = [_spent(self.lab)]
        created: Counter[str] = Counter()

        def between() -> None:
            marks.append(_spent(self.lab))
            created.update(self.lab.cloud.calls())

        moments = Burst(self.lab, self.per_node).run(between)
        marks.append(_spent(self.lab))
        left = self._await_empty()
        calls = Counter(self.lab.cloud.calls())
        cpu = (marks[1] - marks[0], marks[2] - marks[1])
        return Round(moments, cpu, (created, calls - created), left)

    def _counts(self) -> dict[str, remains.Counts]:
        counts = {node.name: dict(remains.of_node(node)) for node in self.lab.nodes}
        if self.name == TERWAY:
            for node in self.lab.nodes:
                counts[node.name].update(remains.of_agent(node))
        return dict(counts)

    def _left(self) -> tuple[str, ...]:
        """Where a node has other counts than before."""
        return tuple(
            f"{node}: {count - self.before[node][what]:+d} {what}"
            for node, counts in self._counts().items()
            for what, count in counts.items()
            if what not in self.ignored and count != self.before[node][what]
        )

    def _await_empty(self) -> tuple[str, ...]:
        """Until nothing is left and the pool is small again; what was left after four minutes."""
        deadline = time.monotonic() + _DRAINED
        while (left := self._undrained() or self._left()) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        return left

    def _undrained(self) -> tuple[str, ...]:
        if self.name != TERWAY:
            return ()
        found = {n.name: remains.undrained(remains.state(n), MOST_IDLE) for n in self.lab.nodes}
        beyond = {n.name: remains.in_cloud(self.lab, n) - MOST_IDLE for n in self.lab.nodes}
        return (
            *(f"{name}: {what}" for name, what in found.items() if what),
            *(f"{name}: {more} addresses in the cloud" for name, more in beyond.items() if more > 0),
        )


def quiet(_text: str) -> None:
    """Nobody waits for these steps."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _spent(lab: Lab) -> float:
    """Seconds of processor that the nodes have used, by their control group: containerd, kubelet, CNI, pods.

    Neither the control plane nor the cloud, nor what others do on the machine. Raises LabError.
    """
    for hierarchy in cgroups.hierarchies():
        group = hierarchy.lab(lab.name)
        if "cpuacct" in hierarchy.controllers.split(","):
            return int((group / "cpuacct.usage").read_text()) / 1e9
        if hierarchy.unified and (group / "cpu.stat").exists():
            return int((group / "cpu.stat").read_text().split()[1]) / 1e6
    raise LabError("no control group counts the processor time of nodes")


def terway(lab: Lab, **settings: str) -> None:
    """As an operator installs it; what is too much goes back sooner than by default. Raises LabError.

    ``settings`` of eni_conf come on top.
    """
    product.load(lab, product.archive(say))
    kept = {"max_pool_size": MOST_IDLE, "ip_pool_sync_period": "10s"}
    conf = agent.eni_conf(lab.spec, **{**kept, **settings})
    lab.kubernetes.put_config_map(
        product.NAMESPACE, product.CONFIG_MAP, agent.config_map(conf, agent.cni_conf())
    )
    product.apply(lab)
    await_nodes(lab, quiet)
    await_available(lab, "daemonsets", product.NAMESPACE, product.DAEMON_SET, quiet)


def slow_cloud(lab: Lab, seconds: float) -> None:
    """Every API call takes that long, and so does what it caused until each witness shows it."""
    if seconds:
        lab.cloud.add_fault(latency=seconds)
        lab.cloud.set_delays(metadata=seconds, device=seconds, attach=seconds)


def contestants(stack: ExitStack, args: argparse.Namespace) -> Sequence[Contestant]:
    """Both clusters, up and Ready, without DNS; they end with ``stack``."""
    made = []
    for name in (TERWAY, PTP):
        say(f"a cluster with {name}")
        lab = stack.enter_context(empty_cluster(name, args.nodes, args.type))
        if name == TERWAY:
            terway(lab)
            slow_cloud(lab, args.cloud_delay)
        else:
            stand_in.install(lab, quiet)
        made.append(Contestant(name, lab, args.pods))
    return made


def empty_cluster(name: str, nodes: int, kind: str) -> Lab:
    """Without a CNI: no node is Ready. It ends with this process. Raises LabError."""
    plain = LabSpec(nodes=tuple(NodeSpec(f"node{i + 1}", kind) for i in range(nodes)))
    spec = cluster.with_kubernetes(plain, Wanted(), say)
    return Lab.start(spec, name=f"perf-{name}-{os.getpid()}")


def measure(runners: Sequence[Contestant], rounds: int) -> Mapping[str, Sequence[Round]]:
    """In turns, and in turns the other one first."""
    found: dict[str, list[Round]] = {runner.name: [] for runner in runners}
    for runner in runners:
        replace(runner, per_node=1).round()  # a node has had a pod before
    for number in range(rounds):
        for runner in runners if number % 2 == 0 else tuple(reversed(runners)):
            done = runner.round()
            found[runner.name].append(done)
            say(f"round {number + 1}: {runner.name:7} {pods_table.summary(done.moments)}")
    return found


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run perf pods", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pods", type=int, default=100, metavar="N", help="on each node, default %(default)s"
    )
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default %(default)s")
    parser.add_argument("--type", default=TYPE, metavar="T", help="ECS type, default %(default)s")
    parser.add_argument(
        "--cloud-delay",
        type=float,
        default=0.5,
        metavar="S",
        help="seconds that each call of the cloud takes, and its effect to be seen; default %(default)s",
    )
    args = parser.parse_args(argv)
    pods = counted(args.pods, "pod")
    print(f"{machine()}; {counted(args.nodes, 'node')} of {args.type}, {pods} on each at once")
    try:
        with ExitStack() as stack:
            found = measure(contestants(stack, args), args.rounds)
    except LabError as exc:
        print(f"perf pods: {' '.join(str(exc).split())}", file=sys.stderr)
        return 1
    print("\n".join(pods_table.lines(found[TERWAY], found[PTP], pods=args.pods * args.nodes)))
    return 0
