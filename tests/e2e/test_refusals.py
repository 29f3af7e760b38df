"""What the cloud refuses: told in words, without a trace, and mended when the cause has gone.

Each refusal arises from state where the lab has that state, and from a fault where it has not. A pod that
runs meanwhile does not notice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.client import Lab
from lab.nodes.agent import Wait
from tests.e2e.benches import CONF, bench, match_clocks, sandbox, unchanged
from tests.e2e.conftest import Bench
from tests.e2e.refusals import BLOCKED, COOLED, assert_refused, served, undisturbed
from tests.e2e.witnesses import cloud_enis, settled

PODS = "vsw-pods"


@pytest.fixture
def node(lab: Lab) -> Iterator[Bench]:
    """Configured, without addresses to spare, not started."""
    with bench(lab) as made:
        yield made


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
    assert_refused(node, "web", 100, f"{PODS} (0 free)", "add a vSwitch of this zone")
    node.lab.cloud.release(PODS)
    node.advance(BLOCKED)
    served(node, "web")


@pytest.mark.usefixtures("full")
def test_the_last_addresses_of_a_vswitch_go_to_pods(node: Bench) -> None:
    """A call that also asks for idle addresses is refused whole where a pod's own are free."""
    node.configure(max_pool_size=5)
    node.start()
    node.lab.cloud.occupy(PODS, leave=2)
    served(node, "web")
    served(node, "second")
    assert_refused(node, "third", 100, PODS, "next try in")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {"security_group": "sg-none"},
            103,
            ["InvalidSecurityGroupId.NotFound", "sg-none", "`security_group`"],
        ),
        ({"vswitches": {"cn-hangzhou-a": ["vsw-none"]}}, 103, ["vsw-none (not found)", "`vswitches`"]),
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
            node.advance(COOLED)
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
