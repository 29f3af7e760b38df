"""What a cluster says of itself, and what somebody who waits for it hears."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lab.kube_client import KubeError
from lab.kubernetes import cluster
from lab.kubernetes.readiness import check_programs, not_ready, pods_of, restarted, wait_until
from lab.messages import LabError
from lab.nodes.node import LabNode


def node(status: str, message: str = "") -> dict[str, Any]:
    other = {"type": "DiskPressure", "status": "False"}
    return {"status": {"conditions": [other, {"type": "Ready", "status": status, "message": message}]}}


def test_a_node_is_ready_or_says_why_not() -> None:
    assert not_ready(node("True", "kubelet is posting ready status")) == ""
    assert not_ready(node("False", "cni plugin not initialized")) == "cni plugin not initialized"
    assert not_ready(node("Unknown")) == "not Ready"
    assert not_ready({}) == "its kubelet has said nothing yet"


def test_pods_of_a_deployment_count_once_they_are_of_its_latest_template() -> None:
    item = {"spec": {"replicas": 3}, "status": {"availableReplicas": 3, "updatedReplicas": 1}}
    assert pods_of(item) == (3, 1)
    assert pods_of({"spec": {}, "status": {}}) == (1, 0)


def test_pods_of_a_daemon_set() -> None:
    status = {"desiredNumberScheduled": 2, "numberAvailable": 2, "updatedNumberScheduled": 2}
    assert pods_of({"spec": {}, "status": status}) == (2, 2)
    assert pods_of({"spec": {}, "status": {**status, "numberAvailable": 1}}) == (2, 1)


def test_waiting_goes_on_over_refusals_and_ends() -> None:
    answers: list[str | KubeError] = [KubeError("GET /x: not found", 404), "not yet", ""]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, KubeError):
            raise answer
        return answer

    wait_until(ask, lambda _text: None)
    assert not answers


def test_waiting_that_is_over_says_for_what() -> None:
    with pytest.raises(LabError, match="after 0 s: node9 is not registered"):
        wait_until(lambda: "node9 is not registered", lambda _text: None, 0.0)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PACKAGES", {"busybox-static": "sh", "containerd": "no-such-program"})
    with pytest.raises(LabError, match=r"install --no-install-recommends containerd`"):
        cluster.check_packages()


class _Node:
    """A node whose process 1 answers; there is no log to read."""

    name = "node1"

    def __init__(self, running: tuple[str, ...], ends: dict[str, int]) -> None:
        self._answer = {
            "running": [{"label": label, "pid": 7, "argv": []} for label in running],
            "kept": {label: {"ends": n, "last": "ended with status 1"} for label, n in ends.items()},
        }

    def ask(self, request: dict[str, Any]) -> tuple[Any, list[int]]:
        assert request == {"verb": "processes"}
        return self._answer, []

    def read(self, path: str) -> str:
        return f"the end of {path}\n"


def node_with(running: tuple[str, ...], ends: dict[str, int]) -> LabNode:
    return cast(LabNode, _Node(running, ends))


def test_a_program_that_ends_again_and_again_is_an_error() -> None:
    programs = ("containerd", "kubelet")
    check_programs(node_with(programs, {"containerd": 0, "kubelet": 2}), programs)
    check_programs(node_with(("containerd",), {"containerd": 0, "kubelet": 2}), programs)
    with pytest.raises(
        LabError, match=r"node1: kubelet ended with status 1 again: the end of .*kubelet\.log"
    ):
        check_programs(node_with(programs, {"containerd": 0, "kubelet": 3}), programs)
    with pytest.raises(LabError, match="node1: kubelet has ended: the end of"):
        check_programs(node_with(("containerd",), {}), programs)


def test_only_what_was_started_again_is_told() -> None:
    told = restarted(node_with((), {"containerd": 0, "kubelet": 2}))
    assert told == ["node1: kubelet was started again 2 times; last it ended with status 1"]
