"""One lab per test file, a node with a fresh agent per test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from control.cli.client import Daemon
from lab.client import Lab
from lab.nodes import agent
from lab.nodes.node import LabNode
from lab.sandbox import LabPod
from lab.spec import LabSpec, NodeSpec

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Without nodes: each test adds its own, so that none sees another's leftovers."""
    with Lab.start(LabSpec(nodes=()), name=f"e2e-{os.getpid()}-{next(_numbers)}") as running:
        yield running


@dataclass
class Bench:
    """A node under test, and shorthand for what a test does to it."""

    lab: Lab
    node: LabNode

    def configure(self, cni: dict[str, Any] | None = None, **changes: Any) -> None:
        self.node.install_cni()
        self.node.write_config(agent.eni_conf(self.lab.spec, **changes), cni)

    def start(self, **env: str) -> None:
        self.node.start_agent(env={"TERWAY_TEST_CLOCK": "1", **env})

    def pod(self, name: str, **options: Any) -> LabPod:
        """In a Kubernetes namespace of the node's own name: tests share the API server."""
        return self.lab.add_pod(self.node.name, self.node.name, name, **options)

    def advance(self, seconds: float) -> None:
        """Both clocks: the daemon's and the cloud's."""
        self.lab.cloud.advance(seconds)
        window = f"unix:///proc/{self.node.pid}/root/{agent.WINDOW}"
        Daemon(window).call("POST", "advance-clock", seconds=str(seconds))

    def drops(self) -> dict[str, int]:
        """What the fabric has dropped of the frames this node sent, by reason.

        Not what others sent to it: the cloud's servers go on answering a node that was unplugged.
        """
        return self.lab.drops(self.node.name)


@pytest.fixture
def node(lab: Lab) -> Iterator[Bench]:
    name = f"node{next(_numbers)}"
    bench = Bench(lab, lab.add_node(NodeSpec(name)))
    bench.configure(ip_stack="dual")
    yield bench
    lab.cloud.clear_faults()
    for pod in lab.pods():
        if pod.node.name == name:
            lab.kubernetes.delete_pod(pod.record.namespace, pod.record.name)
    lab.remove_node(name)
