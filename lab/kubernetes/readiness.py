"""Waiting for a cluster: for its nodes, for the pods of a workload. What holds it up is said meanwhile."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from lab.apiserver.port import Say
from lab.apiserver.programs import KUBE_PROXY, KUBELET
from lab.client import Lab
from lab.kube_client import KubeError
from lab.kubernetes.runtime import CONTAINERD, tail
from lab.kubernetes.wording import times
from lab.messages import LabError
from lab.nodes.node import LabNode
from lab.spec import ProxyMode

_DEADLINE = 60.0
_POLL = 0.1
_TOLD_EVERY = 5.0
_TOO_OFTEN = 3
"""Ends of a program since its node has booted; it is started again after each."""


def await_nodes(lab: Lab, say: Say) -> None:
    """Until every node is Ready, and pods can be made. Raises LabError that says what holds it up."""

    proxied = lab.spec.kubernetes is not None and lab.spec.kubernetes.proxy != ProxyMode.NONE
    programs = (CONTAINERD, KUBELET, KUBE_PROXY) if proxied else (CONTAINERD, KUBELET)

    def waits_for() -> str:
        for node in lab.nodes:
            check_programs(node, programs)
        registered = {
            n["metadata"]["name"]: n for n in lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
        }
        for node in lab.nodes:
            if node.name not in registered:
                return f"node {node.name} is not registered"
            if why := not_ready(registered[node.name]):
                return f"node {node.name}: {why}"
        lab.kubernetes.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        return ""

    wait_until(waits_for, say)
    say(f"Ready: {', '.join(node.name for node in lab.nodes)}")


def not_ready(node: dict[str, Any]) -> str:
    """Why a Node object is not Ready, "" if it is."""
    for condition in node.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            return "" if condition["status"] == "True" else str(condition.get("message") or "not Ready")
    return "its kubelet has said nothing yet"


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def await_available(lab: Lab, kind: str, where: str, name: str, say: Say, *, least: int = 0) -> None:
    """Until all pods of one of ``deployments`` or ``daemonsets`` serve. Raises LabError.

    ``least``: so many, though the API server may not yet know the nodes that a DaemonSet is for.
    """
    path = f"/apis/apps/v1/namespaces/{where}/{kind}/{name}"

    def waits_for() -> str:
        item = lab.kubernetes.request("GET", path)
        told, serving = pods_of(item)
        wanted = max(told, least)
        observed = item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
        return "" if observed and serving >= wanted else f"{name}: {serving} of {wanted} pods serve"

    wait_until(waits_for, say)


def pods_of(item: dict[str, Any]) -> tuple[int, int]:
    """How many pods a Deployment or DaemonSet wants, and how many of its latest template serve."""
    status = item.get("status", {})
    if "desiredNumberScheduled" in status:
        serving = min(status.get("numberAvailable", 0), status.get("updatedNumberScheduled", 0))
        return int(status["desiredNumberScheduled"]), serving
    serving = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
    return int(item["spec"].get("replicas", 1)), serving


def wait_until(waits_for: Callable[[], str], say: Say, deadline: float = _DEADLINE) -> None:
    """Ask until the answer is "". Raises LabError with the last one after ``deadline`` seconds."""
    begin = told = time.monotonic()
    while why := _asked(waits_for):
        now = time.monotonic()
        if now - begin > deadline:
            raise LabError(f"after {deadline:.0f} s: {why}")
        if now - told > _TOLD_EVERY:
            told = now
            say(f"  {now - begin:.0f} s: {why}")
        select.select([], [], [], _POLL)


def _asked(waits_for: Callable[[], str]) -> str:
    try:
        return waits_for()
    except KubeError as exc:
        return str(exc)


def check_programs(node: LabNode, programs: Sequence[str]) -> None:
    """Raises LabError for one that does not run and will not again, or ends as often as it is started."""
    answer = node.ask({"verb": "processes"})[0]
    running = {process["label"] for process in answer["running"]}
    for program in programs:
        kept = answer["kept"].get(program)
        if kept is None and program not in running:
            raise LabError(f"node {node.name}: {program} has ended: {tail(node, program)}")
        if kept is not None and kept["ends"] >= _TOO_OFTEN:
            raise LabError(f"node {node.name}: {program} {kept['last']} again: {tail(node, program)}")


def restarted(node: LabNode) -> list[str]:
    """A line for each program of a node that had to be started again since the boot; [] for a node off."""
    try:
        kept = node.ask({"verb": "processes"})[0]["kept"]
    except LabError:
        return []
    return [
        f"{node.name}: {program} was started again {times(what['ends'])}; last it {what['last']}"
        for program, what in kept.items()
        if what["ends"]
    ]
