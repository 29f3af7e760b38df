"""ADD and DEL as a runtime sees them: ``./run perf add [--dual] [--samples N]``.

One node of a type with 210 addresses for pods, a warm pool, the real executable. Sequential with 0 and with
110 pods present, a burst of 110 as wall time including exec, the null exec beside it, what a cold ADD adds to
the cloud's own time, and what the daemon costs at rest with 30 pods.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab import cni_call
from lab.client import Lab
from lab.cni_call import Attachment
from lab.demo import vitals
from lab.nodes import agent
from lab.nodes.node import LabNode
from lab.spec import Delays, LabSpec, NodeSpec
from perf.machine import commit, cpu

TYPE = "ecs.g7.4xlarge"
PRESENT = 110
BURST = 110
POOL = 200
NAMESPACE = "perf"
REST_PODS = 30
REST = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """``samples`` in ms, sorted; ``rate`` per second, 0 where it has no meaning."""

    name: str
    samples: tuple[float, ...]
    rate: float = 0.0

    def text(self) -> str:
        if len(self.samples) == 1:
            return f"  {self.name:44}  {self.samples[0]:11.2f} ms"
        p50, p95 = (self.samples[int(len(self.samples) * q)] for q in (0.5, 0.95))
        rate = f"  {self.rate:7.0f}/s" if self.rate else ""
        return f"  {self.name:44}  p50 {p50:7.2f}  p95 {p95:7.2f}  max {self.samples[-1]:7.2f} ms{rate}"


class Runtime:
    """Sandboxes of one node, made beforehand, so that only the plugin is timed."""

    def __init__(self, lab: Lab, node: LabNode) -> None:
        self._lab = lab
        self._node = node
        self._plugin = cni_call.network_of(node).plugins[0]
        self._stdin = json.dumps(self._plugin, sort_keys=True, separators=(",", ":"))

    def sandboxes(self, count: int, prefix: str) -> list[Attachment]:
        made = []
        for i in range(count):
            name = f"{prefix}-{i}"
            pod = {
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"nodeName": self._node.name, "containers": [{"name": "c", "image": "pause"}]},
            }
            uid = self._lab.kubernetes.create_pod(pod)["metadata"]["uid"]
            sandbox = f"cni-{uuid.uuid4()}"
            os.close(self._node.add_sandbox(sandbox))
            made.append(Attachment(uuid.uuid4().hex * 2, f"/var/run/netns/{sandbox}", NAMESPACE, name, uid))
        self._await_cached()
        return made

    def _await_cached(self) -> None:
        """Pods come to the daemon by its watch: the last one's arrival is what the ADD of it would see."""
        time.sleep(0.5)

    def call(self, command: str, mode: str, attachments: Sequence[Attachment]) -> dict[str, Any]:
        calls = [{"env": a.environment(command), "stdin": self._stdin} for a in attachments]
        return self.raw(mode, calls)

    def raw(self, mode: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        plan = {"mode": mode, "program": f"{cni_call.BIN_DIR}/terway", "calls": calls}
        done = self._node.exec(
            [sys.executable, "-m", "perf.runtime"], stdin=json.dumps(plan), timeout=120, check=True
        )
        result: dict[str, Any] = json.loads(done.stdout)
        if result["failures"]:
            raise RuntimeError(f"{len(result['failures'])} calls failed: {result['failures'][0]}")
        return result

    def null(self, count: int) -> Row:
        """VERSION: exec, read stdin, print; the floor of any plugin."""
        calls = [{"env": {"CNI_COMMAND": "VERSION"}, "stdin": self._stdin}] * count
        return _row("exec alone (VERSION, no daemon)", self.raw("sequential", calls))


def _row(name: str, result: dict[str, Any], *, burst: bool = False) -> Row:
    samples = tuple(sorted(s * 1000 for s in result["seconds"]))
    return Row(name, samples, len(samples) / result["wall"] if burst else 0.0)


def _pool_idle(node: LabNode) -> int:
    return int(json.loads(node.agent_get("/state")[1])["pool"]["idle"])


def await_idle(node: LabNode, count: int) -> None:
    deadline = time.monotonic() + 60
    while _pool_idle(node) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the pool of {node.name} has not reached {count} idle addresses")
        time.sleep(0.05)


def warm(lab: Lab, node: LabNode, samples: int) -> list[Row]:
    runtime = Runtime(lab, node)
    rows = [runtime.null(samples)]
    first = runtime.sandboxes(BURST, "a")
    for title, present in (("0 pods present", []), (f"{PRESENT} pods present", first)):
        if present:
            rows.append(_row(f"ADD, burst of {BURST}", runtime.call("ADD", "burst", present), burst=True))
        adds: list[float] = []
        dels: list[float] = []
        some = runtime.sandboxes(20, f"s{len(present)}")
        for _ in range(samples // len(some)):
            await_idle(node, len(some))
            adds += runtime.call("ADD", "sequential", some)["seconds"]
            dels += runtime.call("DEL", "sequential", some)["seconds"]
        rows.append(Row(f"ADD, one by one, {title}", tuple(sorted(s * 1000 for s in adds))))
        rows.append(Row(f"DEL, one by one, {title}", tuple(sorted(s * 1000 for s in dels))))
        if not present:
            rows += inside(node)  # before the burst, in which requests wait for each other
    rows.append(_row(f"DEL, burst of {BURST}", runtime.call("DEL", "burst", first), burst=True))
    return rows


def inside(node: LabNode) -> list[Row]:
    """The daemon's own account of its requests: the mean, without exec and socket."""
    rows = []
    lines = [x for x in node.agent_get("/metrics")[1].splitlines() if not x.startswith("#")]
    metrics = dict(x.rsplit(" ", 1) for x in lines)
    for word, title in (("AllocIP", "ADD"), ("ReleaseIP", "DEL")):
        label = f'{{error="",rpc_api="{word}"}}'
        count = float(metrics[f"terway_rpc_latency_count{label}"])
        total = float(metrics[f"terway_rpc_latency_sum{label}"])
        rows.append(Row(f"  of the {title}: inside the daemon, mean", (total / count,)))
    return rows


def rest(lab: Lab, node: LabNode) -> str:
    for i in range(REST_PODS):
        lab.add_pod(node.name, NAMESPACE, f"rest-{i}")
    deadline = time.monotonic() + 90
    pid = node.agent_pid
    assert pid is not None
    while len(vitals.family(pid)) > 1 and time.monotonic() < deadline:
        time.sleep(0.5)  # the SDK's process ends by itself
    cost = vitals.measure({"daemon": pid}, REST)["daemon"]
    return (
        f"  daemon at rest, {REST_PODS} pods, over {REST:.0f} s: {cost.rss_mib:.0f} MiB, "
        f"{cost.idle_cpu_percent:.2f} % of a core"
    )


def machine() -> str:
    return f"kernel {platform.release()}, {cpu()}, commit {commit()}, load {os.getloadavg()[0]:.1f}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run perf add", description=__doc__.splitlines()[0])
    parser.add_argument("--dual", action="store_true", help="an IPv4 and an IPv6 address per pod")
    parser.add_argument("--samples", type=int, default=200, metavar="N", help="default %(default)s")
    args = parser.parse_args(argv)
    stack = "dual" if args.dual else "ipv4"
    spec = LabSpec(nodes=(NodeSpec("node1", TYPE),), delays=Delays(metadata=0.0, device=0.0, attach=0.0))
    print(f"{machine()}, ip_stack {stack}")
    with Lab.start(spec, name=f"perf-{os.getpid()}") as lab:
        node = lab.node("node1")
        node.install_cni()
        conf = agent.eni_conf(spec, ip_stack=stack, min_pool_size=POOL, max_pool_size=POOL, ip_cool_down="0s")
        node.write_config(conf)
        node.start_agent()
        await_idle(node, POOL)
        for row in warm(lab, node, args.samples):
            print(row.text())
        print(rest(lab, node))
    return 0
