"""What does not answer: metadata, the cloud, Kubernetes. Told in words, without a trace, and mended.

Pods that run do not notice, and what needs nobody is served all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.client import Lab
from lab.nodes.agent import Wait
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import bench, sandbox, unchanged
from tests.e2e.conftest import Bench
from tests.e2e.refusals import BLOCKED, COOLED, WATCH, refused, served, undisturbed
from tests.e2e.witnesses import assert_agree, cloud_enis, reaches, settled, state, until


@pytest.fixture
def node(lab: Lab) -> Iterator[Bench]:
    """Configured, without addresses to spare, not started."""
    with bench(lab) as made:
        yield made


# --- metadata ---


def test_metadata_that_does_not_answer_delays_the_start(node: Bench) -> None:
    node.lab.cloud.add_metadata_fault(latency=20.0, instance_id=node.node.instance_id)
    node.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"}, wait=Wait.SOCKET)
    words = (
        "not ready yet",
        "metadata",
        "100.100.100.200",
        "no answer within 2 s",
        "check that the node reaches",
    )
    with sandbox(node) as raw:
        raw.call("ADD").assert_error(11, *words)
    node.lab.cloud.clear_faults()
    until(lambda: node.node.agent_get("/readyz")[0], lambda status: status == 200)
    served(node, "web")


def test_metadata_away_later_stops_neither_pods_nor_a_restart(node: Bench) -> None:
    node.configure(max_pool_size=5)
    node.start()
    with undisturbed(node):
        node.lab.cloud.add_metadata_fault(latency=20.0, instance_id=node.node.instance_id)
        served(node, "from-the-pool")
        node.lab.cloud.clear_faults()
        node.lab.cloud.add_metadata_fault(status=503, instance_id=node.node.instance_id)
        node.node.stop_agent()
        node.start()
        pod = served(node, "after-a-restart")
        node.lab.delete_pod(pod)
        assert "starting from the ledger alone" in node.node.agent_log()


ONE_ENI = "meta-data/network/interfaces/macs/0"
"""Everything that metadata says of single ENIs; it goes on listing them."""


def test_metadata_away_while_an_eni_is_made_is_waited_for(node: Bench) -> None:
    """One witness of three is missing: the ENI is not served, and not given back for a moment's silence."""
    node.start()
    node.lab.cloud.add_metadata_fault(path=ONE_ENI, status=503)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(served, node, "web")
        until(lambda: state(node.node)["enis"], lambda enis: [e["status"] for e in enis] == ["attaching"])
        assert not state(node.node)["attachments"], "nothing is handed out on two witnesses"
        node.lab.cloud.clear_faults()
        adding.result()
    assert len(cloud_enis(node.lab, node.node)) == 1


def test_metadata_away_for_long_while_an_eni_is_made_is_told(node: Bench) -> None:
    """The ADD ends with who is away; the ENI stays, and is served once somebody can be asked."""
    node.start()
    node.lab.cloud.add_metadata_fault(path=ONE_ENI, status=503)
    error = refused(node, "web")
    assert "the instance metadata service failed" in str(error), error
    (made,) = cloud_enis(node.lab, node.node)
    node.lab.cloud.clear_faults()
    node.advance(BLOCKED)
    served(node, "web")
    assert list(cloud_enis(node.lab, node.node)) == [made]


def test_metadata_that_lags_behind_an_assignment_freezes_it(node: Bench) -> None:
    """The cloud has given an address that metadata answers without; it is used once metadata shows it."""
    node.configure(max_pool_size=0, max_eni=1)
    node.start()
    with undisturbed(node):
        node.lab.cloud.add_metadata_fault(path=ONE_ENI, status=404)
        error = refused(node, "web")
        assert error.code == 11
        assert "metadata has not shown them within 10 s" in str(error), error
        assert "they are frozen and join the pool" in str(error), error
        assert settled(node.node)["pool"]["frozen"] == 1
        node.lab.cloud.clear_faults()
        node.advance(WATCH)
        until(lambda: settled(node.node)["pool"], lambda pool: pool["cooling"] == 1)
        node.advance(COOLED)
        node.lab.cloud.reset_calls()
        served(node, "web")
        assert node.lab.cloud.calls() == {}


# --- lost answers ---


@pytest.mark.parametrize("drop", ["before", "after"])
@pytest.mark.parametrize("action", ["CreateNetworkInterface", "AssignPrivateIpAddresses"])
def test_lost_answer_is_asked_for_again(node: Bench, action: str, drop: str) -> None:
    """The connection breaks twice, before or after the call's effect: the pod waits, nothing is doubled."""
    node.start()
    if action == "AssignPrivateIpAddresses":
        node.pod("steady")
    settled(node.node)
    node.lab.cloud.add_fault(action=action, drop=drop, count=2)
    node.lab.cloud.reset_calls()
    served(node, "web")
    assert node.lab.cloud.calls()[action] == 3
    enis = cloud_enis(node.lab, node.node)
    assert len(enis) == 1
    (eni,) = enis.values()
    assert len(eni["addresses"]) == (2 if action == "AssignPrivateIpAddresses" else 1)


def test_cloud_that_loses_every_answer_is_told_and_nothing_is_made_twice(node: Bench) -> None:
    """An ENI exists that nobody heard of; when the cloud answers again, it is found by its token and used."""
    node.start()
    node.lab.cloud.add_fault(action="CreateNetworkInterface", drop="after")
    error = refused(node, "web")
    assert error.code == 11
    words = ("cannot be reached", "CreateNetworkInterface of vSwitch vsw-pods", "next try in 5 s")
    assert all(w in str(error) for w in words), error
    assert len(cloud_enis(node.lab, node.node)) == 1
    node.lab.cloud.clear_faults()
    node.advance(BLOCKED)
    served(node, "web")
    assert len(cloud_enis(node.lab, node.node)) == 1


# --- Kubernetes ---


@pytest.fixture
def api_server(lab: Lab) -> Iterator[Lab]:
    """May be stopped; serves again afterwards."""
    yield lab
    lab.stop_kubernetes()
    lab.start_kubernetes()


def test_api_server_away_at_start(node: Bench, api_server: Lab) -> None:
    node.start()
    leaving, steady = node.pod("leaving"), node.pod("steady")
    with sandbox(node, "early") as raw:
        node.node.stop_agent()
        api_server.stop_kubernetes()
        node.start()
        leaving.stop()
        leaving.remove()
        with unchanged(node):
            words = ("Kubernetes API cannot be reached", f"pods/{raw.attachment.name}", "keeps trying")
            raw.call("ADD").assert_error(11, *words)
        assert raw.call("DEL").code == 0
        assert reaches(steady, str(OUTSIDE_ADDRESS))
        api_server.start_kubernetes()
        assert raw.call("ADD").code == 0
        assert_agree(node.lab, node.node)


def test_api_server_away_later(node: Bench, api_server: Lab) -> None:
    """What the watch has told is served; of what it has not, the runtime hears why."""
    node.start()
    with sandbox(node, "known") as known, sandbox(node, "unknown", create_object=False) as unknown:
        _await_watch(node)
        api_server.stop_kubernetes()
        assert known.call("ADD").code == 0
        assert_agree(node.lab, node.node)
        with unchanged(node):
            unknown.call("ADD").assert_error(11, "Kubernetes API cannot be reached", "pods/unknown")
        assert known.call("CHECK").code == 0
        api_server.start_kubernetes()
        unknown.call("ADD").assert_error(107, "there is no pod")


def _await_watch(made: Bench) -> None:
    """Start the agent anew and wait until its watch has begun: what was there before is in its cache then."""
    made.node.stop_agent()
    before = len(made.lab.kubernetes_requests())
    made.start()

    def watches() -> list[str]:
        asked = [path for _, path in made.lab.kubernetes_requests()[before:]]
        return [p for p in asked if "watch=true" in p and made.node.name in p]

    until(watches, lambda found: len(found) > 0)
