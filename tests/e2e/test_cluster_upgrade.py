"""The product in a cluster as its operator has it: a DaemonSet, updated and restarted; nodes drained, killed.

Updates happen under datagrams and bulk between pods of two nodes, and are not noticed by any.
"""

from __future__ import annotations

import operator
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from lab.client import Lab, take_down
from lab.kubernetes import cluster, kubectl, product
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.readiness import await_available, await_nodes
from lab.nodes.node import LabNode
from tests.e2e import cluster_images, cluster_site, programs
from tests.e2e.cluster_held import held
from tests.e2e.cluster_images import Image, NoHistoryError
from tests.e2e.cluster_load import Traffic, flowing
from tests.e2e.cluster_release import fast_path, ready_for_the_release_before
from tests.e2e.cluster_site import PODS, SLOW, deploy, deploy_beside, eventually, pods, quiet, window
from tests.e2e.load import compiled
from tests.e2e.witnesses import assert_agree, settled, state, until

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

NAME = f"upgrade-{os.getpid()}"
THIS = "localhost/terway:dev"
_IN_SYSTEM = "--namespace=kube-system"
_DAEMON_SET = "/apis/apps/v1/namespaces/kube-system/daemonsets/terway"
_AGENTS = "/api/v1/namespaces/kube-system/pods?labelSelector=app%3Dterway"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """With a Deployment of four pods."""
    try:
        running = cluster.up(Wanted(name=NAME, agent=Agent.PODS), quiet)
        deploy(running)
        yield running
        running.close()
    finally:
        take_down(NAME)


@pytest.fixture(scope="module")
def imported(lab: Lab) -> Iterator[Callable[[str], Image]]:
    """One of the other images by its name, in every node. Raises NoHistoryError."""
    with tempfile.TemporaryDirectory(dir=cluster_images.ROOT / ".cache", prefix="images-") as scratch:

        @cache
        def made(name: str) -> Image:
            build = {"previous": cluster_images.previous, "other": cluster_images.other}[name]
            image = build(Path(scratch), f"localhost/terway:{name}")
            product.load(lab, image.archive)
            return image

        yield made


@pytest.fixture
def traffic(lab: Lab, tmp_path: Path) -> Iterator[Traffic]:
    with flowing(lab, compiled(tmp_path)) as going:
        yield going


def agents(lab: Lab) -> set[str]:
    """Names of the agents' pods that serve."""
    return {
        pod["metadata"]["name"]
        for pod in lab.kubernetes.request("GET", _AGENTS)["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and all(status["ready"] for status in pod["status"].get("containerStatuses", [{"ready": False}]))
    }


def versions(lab: Lab) -> set[str]:
    return {window(node, "/mode")["node"]["terway"] for node in lab.nodes}


def update(lab: Lab, tag: str) -> None:
    """Node by node, until the last one serves."""
    images = (f"{container}={tag}" for container in ("install-cni", "terway"))
    kubectl.run(lab, ["set", "image", _IN_SYSTEM, "daemonset/terway", *images])
    kubectl.run(lab, ["rollout", "status", _IN_SYSTEM, "daemonset/terway", "--timeout=120s"])


def delete_agents(lab: Lab) -> None:
    """The step of an operator after a change of eni-config, as it is written down; until all serve again."""
    before = agents(lab)
    kubectl.run(lab, ["delete", "pods", "-n", "kube-system", "-l", "app=terway"])
    eventually("new agents serve", lambda: len(agents(lab) - before) == len(lab.nodes))


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


@pytest.mark.parametrize("name", ["previous", "other"])
def test_another_version_comes_and_goes(
    traffic: Traffic, imported: Callable[[str], Image], name: str
) -> None:
    lab = traffic.lab
    try:
        image = imported(name)
    except NoHistoryError as exc:
        pytest.skip(str(exc))
    (ours,) = versions(lab)
    before = [programs.running(node) for node in lab.nodes]
    older = name == "previous" and cluster_images.wants_older_ledger(cluster_images.PREVIOUS)
    with traffic.unharmed(f"update to {image.version}", by_stack=older):
        if older:
            ready_for_the_release_before(lab)
        update(lab, image.tag)
        if older:
            fast_path(lab, "on")
    assert versions(lab) == {image.version} != {ours}
    if name == "other":
        assert not any(programs.running(n) & old for n, old in zip(lab.nodes, before, strict=True))
    with traffic.unharmed(f"update to {ours}"):
        update(lab, THIS)
    assert versions(lab) == {ours}
    assert [programs.running(node) for node in lab.nodes] == before


def test_pods_come_and_go_during_an_update(traffic: Traffic) -> None:
    """Whatever is asked for while no agent serves waits, or is asked for again; nothing is left of it."""
    lab = traffic.lab
    deploy_beside(lab, "early")
    await_available(lab, "deployments", "default", "early", quiet)
    with traffic.unharmed("rollout restart, pods coming and going"):
        kubectl.run(lab, ["rollout", "restart", _IN_SYSTEM, "daemonset/terway"])
        kubectl.run(lab, ["delete", "deployment", "early"])
        deploy_beside(lab, "late")
        kubectl.run(lab, ["rollout", "status", _IN_SYSTEM, "daemonset/terway", "--timeout=120s"])
        await_available(lab, "deployments", "default", "late", quiet)
        until(partial(in_ledgers, lab, "early-"), operator.not_, seconds=SLOW)
    assert in_ledgers(lab, "late-") == 4
    kubectl.run(lab, ["delete", "deployment", "late"])
    until(partial(in_ledgers, lab, "late-"), operator.not_, seconds=SLOW)
    for node in lab.nodes:
        assert_agree(lab, node)


def in_ledgers(lab: Lab, prefix: str) -> int:
    """Attachments of pods with such names, whatever their state."""
    rows = [row for node in lab.nodes for row in state(node)["attachments"]]
    return sum(row["pod_name"].startswith(prefix) for row in rows)


def test_deleted_agents_are_not_missed(traffic: Traffic) -> None:
    with traffic.unharmed("delete pods -l app=terway"):
        delete_agents(traffic.lab)


def test_another_configuration(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edited in place by whatever KUBE_EDITOR names, as kubectl would open for an operator."""
    lab = traffic.lab
    sizes = (
        f's/"{name}_pool_size": [0-9]+/"{name}_pool_size": {n}/' for name, n in (("max", 30), ("min", 20))
    )
    monkeypatch.setenv("KUBE_EDITOR", f"sed -E -i '{';'.join(sizes)}'")
    assert all(idle(node) < 20 for node in lab.nodes)
    with traffic.unharmed("edit configmap and delete pods"):
        kubectl.run(lab, ["edit", "configmap", "eni-config", "-n", "kube-system"])
        delete_agents(lab)
    for node in lab.nodes:
        shown = dict(window(node, "/resources/resource_pool/eniip")["config"])
        assert (shown["max_idle"], shown["min_idle"]) == ("30", "20")
        until(partial(idle, node), partial(operator.le, 20))
        assert_agree(lab, node)


def idle(node: LabNode) -> int:
    """Addresses on the node's ENIs that no pod has."""
    enis = settled(node)["enis"]
    return sum(row["status"] != "assigned" for eni in enis for row in eni["addresses"])


def all_serve(lab: Lab, *, where: set[str], restarts: int = 0) -> Callable[[], bool]:
    """Whether all of the Deployment's pods are ready on these nodes, so many of them or more restarted."""

    def asked() -> bool:
        found = pods(lab)
        statuses = [s for pod in found for s in pod["status"].get("containerStatuses", ())]
        ready = sum(s["ready"] for s in statuses) == len(found) == PODS
        spread = {pod["spec"].get("nodeName") for pod in found} == where
        return ready and spread and sum(s["restartCount"] > 0 for s in statuses) >= restarts

    return asked


def test_a_killed_node_comes_back_by_itself_with_what_it_had(lab: Lab) -> None:
    node = lab.node("node2")
    before, addresses = [held(lab, each) for each in lab.nodes], addresses_of(lab)
    assert all(len(each.ledger) == len(each.namespaces) >= PODS // 2 for each in before)
    node.reboot()
    await_nodes(lab, quiet)
    eventually("its pods run again", all_serve(lab, where={"node1", "node2"}, restarts=PODS // 2))
    assert addresses_of(lab) == addresses
    until(lambda: [held(lab, each) for each in lab.nodes], partial(operator.eq, before))
    assert_agree(lab, node)


def addresses_of(lab: Lab) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods(lab)}


def test_a_drained_node_gives_everything_back(lab: Lab) -> None:
    node = lab.node("node2")
    before, free = held(lab, node), idle(node)
    kubectl.run(lab, ["drain", node.name, "--ignore-daemonsets", "--force"])
    eventually("its pods have come elsewhere", all_serve(lab, where={"node1"}))
    nothing = until(lambda: held(lab, node), lambda now: not now.ledger and not now.namespaces)
    assert not nothing.routes | nothing.rules | nothing.rows
    assert "cali" not in nothing.links
    assert nothing.cloud == before.cloud
    assert idle(node) == free + len(before.ledger), "the pool has them"
    assert assert_agree(lab, node)["attachments"] == []
    kubectl.run(lab, ["uncordon", node.name])
    kubectl.run(lab, ["scale", "deployment/web", "--replicas=0"])
    until(partial(in_ledgers, lab, "web-"), operator.not_, seconds=SLOW)
    kubectl.run(lab, ["scale", "deployment/web", f"--replicas={PODS}"])
    eventually("it has pods again", all_serve(lab, where={"node1", "node2"}))
    for each in lab.nodes:
        assert_agree(lab, each)
