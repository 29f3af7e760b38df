"""What is wrong with the cloud, with metadata or with Kubernetes: told in words, without a trace, and mended.

Each test has a pod that runs, and its traffic goes on. What a fault of the lab imitates arises from state
wherever the lab has that state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab.client import Lab
from lab.cni_call import CniError
from lab.nodes.agent import Wait
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import CONF, bench, match_clocks, refused, sandbox, unchanged
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, cloud_enis, reaches, settled, until

PODS = "vsw-pods"
BLOCKED = 6.0
"""Seconds after which something that was refused once is asked for again."""


@pytest.fixture
def node(lab: Lab) -> Iterator[Bench]:
    """Configured, without addresses to spare, not started."""
    with bench(lab) as made:
        yield made


@contextmanager
def undisturbed(made: Bench) -> Iterator[LabPod]:
    """A pod whose traffic goes on, before and after."""
    pod = made.pod("steady")
    settled(made.node)
    yield pod
    assert reaches(pod, str(OUTSIDE_ADDRESS))
    assert not made.drops()


def assert_refused(made: Bench, name: str, code: int, *words: str) -> CniError:
    """An ADD fails with ``code`` and all words, and leaves nothing behind."""
    with unchanged(made):
        error = refused(made, name)
    assert error.code == code, error
    for word in words:
        assert word in str(error), error
    return error


def served(made: Bench, name: str) -> LabPod:
    pod = made.pod(name)
    assert_agree(made.lab, made.node)
    return pod


@pytest.fixture
def full(lab: Lab) -> Iterator[Callable[[], int]]:
    yield lambda: lab.cloud.occupy(PODS)
    lab.cloud.release(PODS)


# --- the cloud says no ---


def test_full_vswitch_stops_addresses_and_heals(node: Bench, full: Callable[[], int]) -> None:
    node.start()
    with undisturbed(node):
        assert full() > 0
        assert_refused(
            node, "web", 100, "No available IP addresses", PODS, "add a vSwitch", "next try in 5 s"
        )
        node.lab.cloud.reset_calls()
        assert_refused(node, "again", 100, PODS)
        assert node.lab.cloud.calls() == {}, "what was just refused is not asked for again"
        node.lab.cloud.release(PODS)
        node.advance(BLOCKED)
        served(node, "web")


def test_full_vswitch_stops_the_first_eni_and_heals(node: Bench, full: Callable[[], int]) -> None:
    node.start()
    full()
    assert_refused(node, "web", 100, f"{PODS} (0 free, zone cn-hangzhou-a)", "add a vSwitch of this zone")
    node.lab.cloud.release(PODS)
    node.advance(BLOCKED)
    served(node, "web")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {"security_group": "sg-none"},
            103,
            ["InvalidSecurityGroupId.NotFound", "sg-none", "`security_group`"],
        ),
        ({"vswitches": {"cn-hangzhou-a": ["vsw-none"]}}, 103, ["vsw-none (not found)", "correct vswitches"]),
        ({"vswitches": {"cn-hangzhou-a": ["vsw-none", PODS]}}, 0, []),
    ],
    ids=["security group", "vSwitch", "one vSwitch of two"],
)
def test_reference_to_nothing(node: Bench, change: dict[str, Any], code: int, words: list[str]) -> None:
    node.configure(max_pool_size=0, **change)
    node.start()
    if code:
        assert_refused(node, "web", code, *words)
        assert not cloud_enis(node.lab, node.node)
        node.node.stop_agent()
        node.configure(max_pool_size=0)
        node.start()
    served(node, "web")


def test_eni_quota_leaves_no_eni(node: Bench) -> None:
    """The cloud makes the ENI and refuses to attach it."""
    node.start()
    node.lab.cloud.add_fault(action="AttachNetworkInterface", code="EniPerInstanceLimitExceeded", status=403)
    node.lab.cloud.reset_calls()
    words = ["QuotaExceeded.Eni", node.node.instance_id, "larger instance type", "next try in 5 s"]
    assert_refused(node, "web", 101, *words)
    assert node.lab.cloud.calls()["CreateNetworkInterface"] == 1
    assert not cloud_enis(node.lab, node.node)
    node.lab.cloud.clear_faults()
    node.advance(BLOCKED)
    served(node, "web")


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("Forbidden.RAM", 108, ["ForbiddenByRam", "grant AssignPrivateIpAddresses"]),
        ("InvalidOperation.Ipv4CountExceeded", 102, ["the ENI is full", "another ENI or another node"]),
        ("InvalidSecurityToken.Expired", 11, ["have expired", "check the node's clock"]),
    ],
)
def test_refusals_of_the_cloud_are_told(node: Bench, fault: str, code: int, words: list[str]) -> None:
    node.configure(max_pool_size=0, max_eni=1)
    node.start()
    with undisturbed(node):
        node.lab.cloud.add_fault(action="AssignPrivateIpAddresses", code=fault, status=403)
        words = [w for w in words if w != "ForbiddenByRam"]
        error = assert_refused(node, "web", code, "AssignPrivateIpAddresses", fault, *words)
        assert re.search(r"next try in \d+ s", error.details), error
        node.lab.cloud.clear_faults()
        node.advance(BLOCKED)
        served(node, "web")


def test_throttling_says_when_and_waits_for_the_next_minute(node: Bench) -> None:
    node.configure(max_pool_size=0, max_eni=1)
    node.start()
    with undisturbed(node):
        _to_second_of_minute(node, 20)
        node.lab.cloud.add_fault(action="AssignPrivateIpAddresses", code="Throttling.User")
        node.lab.cloud.reset_calls()
        error = assert_refused(node, "web", 11, "throttles", "AssignPrivateIpAddresses", "rate_limit")
        wait = re.search(r"next try in (\d+) s", error.details)
        assert wait, error
        assert 30 <= int(wait[1]) <= 40, error
        assert_refused(node, "again", 11, "next try in")
        assert node.lab.cloud.calls() == {"AssignPrivateIpAddresses": 1}, "nothing goes out in this minute"
        node.lab.cloud.clear_faults()
        node.advance(int(wait[1]) + 1)
        served(node, "web")


def _to_second_of_minute(made: Bench, second: int) -> None:
    """Move both clocks on to ``second`` of a minute."""
    made.advance((second - match_clocks(made)) % 60)


# --- the node is full ---


def test_node_at_capacity_names_it(lab: Lab) -> None:
    with bench(lab, instance_type="ecs.g7.large", max_eni=1) as node:
        node.start()
        with undisturbed(node):
            others = [node.pod(f"other-{i}") for i in range(5)]
            words = ("No available IP addresses", "the node is full", "6 of 6 addresses in use", "max_eni")
            assert_refused(node, "seventh", 102, *words)
            lab.delete_pod(others[0])
            assert_refused(node, "seventh", 11, "5 of 6 addresses in use, 1 cooling", "may be used in")
            node.advance(31)
            served(node, "seventh")


# --- who we are ---


def test_wrong_secret_on_a_new_node_is_told_and_never_shown(node: Bench) -> None:
    secret = "Wr0ngSecretThatNobodyMaySee"
    node.configure(max_pool_size=0, access_secret=secret)
    node.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"}, wait=Wait.SOCKET)
    words = (
        "terwayd is not ready yet",
        "refuses the credentials",
        "SignatureDoesNotMatch",
        "`access_secret`",
    )
    with unchanged(node), sandbox(node) as raw:
        answer = raw.call("ADD")
        answer.assert_error(108, *words)
        assert raw.call("STATUS", stdin=json.dumps({**CONF, "cniVersion": "1.1.0"})).json["code"] == 50
        assert raw.call("DEL").code == 0, "a node without pods can say that it has none of this name"
    status, why = node.node.agent_get("/readyz")
    assert status == 503
    assert "SignatureDoesNotMatch" in why
    assert node.node.agent_get("/healthz")[0] == 200
    assert not cloud_enis(node.lab, node.node)
    assert secret not in f"{answer.stdout} {why} {node.node.agent_log()}"
    node.node.stop_agent()
    node.configure(max_pool_size=0)
    node.start()
    served(node, "web")


def test_key_that_goes_bad_stops_growth_and_no_pod(node: Bench) -> None:
    node.start()
    with undisturbed(node):
        node.node.stop_agent()
        node.configure(max_pool_size=0, access_key="LTAI5tNobody")
        node.start()
        assert_refused(node, "web", 108, "refuses the credentials", "InvalidAccessKeyId", "`access_key`")
        node.node.stop_agent()
        node.configure(max_pool_size=0)
        node.start()
        served(node, "web")


def test_role_of_the_instance_serves_and_outlives_its_token(node: Bench) -> None:
    node.configure(max_pool_size=0, access_key="", access_secret="")
    node.start()
    match_clocks(node)
    with undisturbed(node):
        node.advance(7 * 3600)
        settled(node.node)
        node.lab.cloud.reset_calls()
        served(node, "expired-for-both")
        assert node.lab.cloud.calls()["AssignPrivateIpAddresses"] == 1, "renewed before it was refused"
        node.lab.cloud.advance(7 * 3600)
        node.lab.cloud.reset_calls()
        served(node, "expired-for-the-cloud")
        assert node.lab.cloud.calls()["AssignPrivateIpAddresses"] == 2, "refused once, and with a new token"
        log = node.node.agent_log()
        assert "STS." not in log
        assert "CAIS" not in log


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
