"""The product as an operator installs it into a real cluster: a DaemonSet, its updates, a killed node."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.client import Lab, take_down
from lab.kubernetes import cluster, kubectl, product
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.readiness import await_available, await_nodes
from tests.e2e import cluster_site
from tests.e2e.cluster_site import PODS, deploy, eventually, inside, on, pods, quiet, window

if absent := cluster_site.absence():
    pytest.skip(absent, allow_module_level=True)
for program in ("mmdebstrap", "buildah"):
    if shutil.which(program) is None:
        pytest.skip(f"no {program}: the product's image cannot be built", allow_module_level=True)

NAME = f"install-{os.getpid()}"
_LOSS = re.compile(r"(\d+) packets transmitted, (\d+) packets received")
_DAEMON_SET = "/apis/apps/v1/namespaces/kube-system/daemonsets/terway"
_AGENTS = "/api/v1/namespaces/kube-system/pods?labelSelector=app%3Dterway"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        running = cluster.up(Wanted(name=NAME, agent=Agent.PODS), quiet)
        deploy(running)
        yield running
        running.close()
    finally:
        take_down(NAME)


def agents(lab: Lab) -> set[str]:
    """Names of the agents' pods that serve."""
    return {
        pod["metadata"]["name"]
        for pod in lab.kubernetes.request("GET", _AGENTS)["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and all(status["ready"] for status in pod["status"].get("containerStatuses", [{"ready": False}]))
    }


def ping(lab: Lab, seconds: int) -> tuple[int, int]:
    """100 packets per second between pods of two nodes: how many were sent, and how many came back."""
    target = on(lab, "node2")["status"]["podIP"]
    words = ["ping", "-q", "-c", str(seconds * 100), "-i", "0.01", "-W", "1", target]
    found = _LOSS.search(inside(lab, on(lab, "node1"), *words))
    assert found is not None
    return int(found[1]), int(found[2])


def restarts(lab: Lab) -> int:
    return sum(s["restartCount"] for pod in pods(lab) for s in pod["status"]["containerStatuses"])


def test_the_daemon_set_serves_every_node_without_privilege(lab: Lab) -> None:
    assert len(agents(lab)) == len(lab.nodes)
    (container,) = lab.kubernetes.request("GET", _DAEMON_SET)["spec"]["template"]["spec"]["containers"]
    assert not container["securityContext"].get("privileged")
    assert all(window(node, "/fastpath")["state"] == "on" for node in lab.nodes)


def test_pods_are_served_and_known_to_their_agents(lab: Lab) -> None:
    wanted = {(pod["status"]["podIP"], f"default/{pod['metadata']['name']}") for pod in pods(lab)}
    rows = [row for node in lab.nodes for row in window(node, "/bpf/endpoints")]
    assert wanted <= {(address, row["pod"]) for row in rows for address in row["addresses"]}
    assert len(wanted) == PODS


def test_terway_cli_answers_in_the_pod(lab: Lab) -> None:
    words = ["exec", "--namespace=kube-system", "daemonset/terway", "--container=terway", "--"]
    assert "datapath: eBPF" in kubectl.run(lab, [*words, "terway-cli", "mode"])


def test_deleting_the_agents_pods_loses_no_packet(lab: Lab) -> None:
    """The step with which an operator makes a changed eni-config take effect."""
    before, counted = agents(lab), restarts(lab)
    product.configure(lab, max_pool_size=7)
    with ThreadPoolExecutor(max_workers=1) as pool:
        flood = pool.submit(ping, lab, 12)
        kubectl.run(lab, ["delete", "pods", "--namespace=kube-system", "--selector=app=terway"])
        eventually("two new agents serve", lambda: len(agents(lab) - before) == len(lab.nodes))
        assert not flood.done(), "the packets have to cover the restart"
        sent, received = flood.result()
    assert (sent, received) == (1200, 1200)
    assert restarts(lab) == counted


def test_a_rolling_update_loses_no_packet(lab: Lab) -> None:
    before = agents(lab)
    with ThreadPoolExecutor(max_workers=1) as pool:
        flood = pool.submit(ping, lab, 25)
        kubectl.run(lab, ["rollout", "restart", "--namespace=kube-system", "daemonset/terway"])
        await_available(lab, "daemonsets", "kube-system", "terway", quiet)
        eventually("two new agents serve", lambda: len(agents(lab) - before) == len(lab.nodes))
        sent, received = flood.result()
    assert (sent, received) == (2500, 2500)


def test_a_killed_node_comes_back_by_itself(lab: Lab) -> None:
    before = {p["metadata"]["name"]: p["status"]["podIP"] for p in pods(lab)}
    lab.node("node2").reboot()
    await_nodes(lab, quiet)

    def back() -> bool:
        statuses = [s for pod in pods(lab) for s in pod["status"]["containerStatuses"]]
        restarted = [s for s in statuses if s["restartCount"] > 0]
        return len(restarted) == PODS // 2 and all(s["ready"] for s in statuses)

    eventually("node2's pods run again", back)
    assert {p["metadata"]["name"]: p["status"]["podIP"] for p in pods(lab)} == before
    assert len(agents(lab)) == len(lab.nodes)
    sent, received = ping(lab, 1)
    assert (sent, received) == (100, 100)
