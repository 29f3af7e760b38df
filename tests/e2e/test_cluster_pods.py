"""Many pods at once, as ``./run perf pods`` has them, with few: by terway, and by the stand-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.client import Lab
from lab.kubernetes import stand_in
from lab.kubernetes.runtime import CONTAINERD
from perf import pods, remains
from perf.pods import PTP, TERWAY, Contestant, Round
from tests.e2e import cluster_site
from tests.e2e.cluster_site import quiet
from tests.e2e.witnesses import assert_agree

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

PER_NODE = 15
UNTIMELY = frozenset({remains.ENDED})


@pytest.fixture(scope="module")
def terway() -> Iterator[Lab]:
    with pods.empty_cluster(TERWAY, 2, pods.TYPE) as lab:
        pods.terway(lab, ip_cool_down="5s", ip_pool_sync_period="2s")
        yield lab


@pytest.fixture(scope="module")
def done(terway: Lab) -> Round:
    return Contestant(TERWAY, terway, PER_NODE, UNTIMELY).round()


def test_every_pod_becomes_ready_and_goes(terway: Lab, done: Round) -> None:
    assert len(done.moments.ready) == len(done.moments.gone) == PER_NODE * len(terway.nodes)
    assert done.moments.ready[0] > 0 < done.moments.gone[0]


def test_addresses_come_by_the_dozen(done: Round, terway: Lab) -> None:
    """One ENI has room for all of a node: it is made, and what its creation did not bring is assigned."""
    created, _ = done.calls
    assert created["CreateNetworkInterface"] == created["AttachNetworkInterface"] == len(terway.nodes)
    assert sum(created.values()) <= 8 * len(terway.nodes)


def test_nothing_is_left_but_the_idle_addresses(done: Round, terway: Lab) -> None:
    assert done.left == ()
    for node in terway.nodes:
        told = assert_agree(terway, node)
        assert told["attachments"] == []
        assert remains.in_cloud(terway, node) <= pods.MOST_IDLE
        assert set(remains.of_agent(node).values()) == {0}


def test_the_nodes_programs_have_a_control_group_beside_the_pods(terway: Lab) -> None:
    """Else each of their tasks has the share of all pods, and the agent none when many start at once."""
    for node in terway.nodes:
        pid = node.exec(["pgrep", "-x", CONTAINERD], check=True).stdout.strip()
        groups = node.exec(["cat", f"/proc/{pid}/cgroup"], check=True).stdout.split()
        named = [line for line in groups if not line.startswith("0::") or len(groups) == 1]
        assert named
        assert all(line.endswith(":/system.slice") for line in named), groups


def test_the_stand_in_serves_pods_and_leaves_nothing() -> None:
    with pods.empty_cluster(PTP, 1, pods.TYPE) as lab:
        stand_in.install(lab, quiet)
        done = Contestant(PTP, lab, 3, UNTIMELY).round()
        assert len(done.moments.ready) == 3
        assert done.left == ()
        (node,) = lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
        assert node["status"]["capacity"]["pods"] == "210"
