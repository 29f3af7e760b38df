"""A pod without an address in a real cluster: its user is told why, what to do and when the next try is.

And it starts by itself once the cause has gone. Field: aws 3415 (an event names vSwitch, quota and next try),
aws 59, cilium 21747 (an ENI that cannot be attached is not left behind), terway 100.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address

import pytest

from control.model.errors import Cause
from lab.client import Lab, take_down
from lab.kubernetes import cluster, kubectl, product
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.readiness import await_available, await_nodes
from lab.nodes import agent
from lab.spec import OPENAPI_ADDRESS, LabSpec
from tests.e2e import cluster_site
from tests.e2e.cluster_refusals import (
    GRANT_ALL,
    Case,
    Seen,
    await_address,
    create,
    eventually,
    faulty,
    refused,
    start_lanes,
    told,
    warnings,
)
from tests.e2e.cluster_site import quiet

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

NAME = f"refusals-{os.getpid()}"
NODES = ("node1", "node2", "node3")
TYPE = "ecs.g7.large"
"""Two ENIs for pods with six addresses each."""
PODS_VSWITCH, NODES_VSWITCH = (vswitch.vswitch_id for vswitch in reversed(LabSpec().vswitches))
_ENI_FULL = refused(GRANT_ALL[:1], "InvalidOperation.Ipv4CountExceeded", "The ENI has no room.")
"""So that a pod needs another ENI."""

CASES = (
    Case(
        "account-quota",
        "node1",
        Cause.ENI_QUOTA,
        ("QuotaExceeded.Eni", "ENI quota of this region is used up", "Quota Center"),
        refused(GRANT_ALL[1:], "QuotaExceeded.Eni", "ENI quota exceeded."),
    ),
    Case(
        "cloud-away",
        "node1",
        Cause.UNREACHABLE,
        ("AssignPrivateIpAddresses of ENI eni-", f"the OpenAPI endpoint {OPENAPI_ADDRESS}"),
        ({"drop": "before"},),
    ),
    Case(
        "group-full",
        "node1",
        Cause.SECURITY_GROUP_FULL,
        ("SecurityGroupInstanceLimitExceed", "security group sg-cluster may hold no more", "another one"),
        refused(GRANT_ALL, "SecurityGroupInstanceLimitExceed", "The maximum number is exceeded."),
    ),
    Case(
        "group-elsewhere",
        "node2",
        Cause.INVALID_SECURITY_GROUP,
        (
            "InvalidOperation.VpcMismatch",
            "`security_group`",
            "sg-cluster",
            f"the VPC of vSwitch {PODS_VSWITCH}",
        ),
        refused(GRANT_ALL[1:], "InvalidOperation.VpcMismatch", "They are not in the same VPC."),
    ),
    Case(
        "rights",
        "node2",
        Cause.FORBIDDEN,
        ("Forbidden.RAM", "grant CreateNetworkInterface to the access key's user or to the node's RAM role"),
        refused(GRANT_ALL, "Forbidden.RAM", "User not authorized to operate."),
        tries=2,
    ),
    Case(
        "instance-limit",
        "node3",
        Cause.ENI_QUOTA,
        ("EniPerInstanceLimitExceeded", "QuotaExceeded.Eni: instance i-node3 has as many ENIs", "`max_eni`"),
        refused(["AttachNetworkInterface"], "EniPerInstanceLimitExceeded", "The number of ENI exceeds."),
    ),
    Case(
        "throttled",
        "node3",
        Cause.THROTTLED,
        ("Throttling.User", "it is tried again by itself", "`rate_limit`"),
        refused(GRANT_ALL, "Throttling.User", "Request was denied due to user flow control."),
    ),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The product as installed, its pool without addresses to spare: each pod needs the cloud."""
    wanted = Wanted(nodes=len(NODES), instance_type=TYPE, agent=Agent.NONE, name=NAME, max_pods=110)
    try:
        running = cluster.up(wanted, quiet)
        product.load(running, product.archive(quiet))
        data = agent.config_map(agent.eni_conf(running.spec, max_pool_size=0), wanted.cni)
        running.kubernetes.put_config_map(product.NAMESPACE, product.CONFIG_MAP, data)
        product.apply(running)
        await_available(running, "daemonsets", product.NAMESPACE, product.DAEMON_SET, quiet)
        await_nodes(running, quiet)
        yield running
        running.close()
    finally:
        take_down(NAME)


@pytest.fixture(scope="module")
def lanes(lab: Lab) -> Iterator[dict[str, Future[Seen]]]:
    with ThreadPoolExecutor(max_workers=len(NODES)) as pool:
        yield start_lanes(lab, CASES, pool)


def assert_told(lab: Lab, name: str, cause: Cause, *words: str) -> None:
    """``kubectl describe`` shows our event and the kubelet's, both with all words, and no secret."""
    described = kubectl.run(lab, ["describe", "pod", name])
    assert_shown(lab, described, cause, *words)


def assert_shown(lab: Lab, described: str, cause: Cause, *words: str) -> None:
    lines = [" ".join(line.split()) for line in described.splitlines()]
    ours = [line for line in lines if f"terway-daemon {cause}: " in line]
    assert len(ours) == 1, f"one line, however often the kubelet tries: {described}"
    kubelets = [line for line in lines if "FailedCreatePodSandBox" in line]
    for word in words:
        assert word in ours[0], described
        assert any(word in line for line in kubelets), described
    for secret in (lab.spec.access_secret, lab.spec.access_key):
        assert secret not in described


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_refused_pod_is_told_why_and_starts_when_the_cause_has_gone(
    lab: Lab, lanes: dict[str, Future[Seen]], case: Case
) -> None:
    seen = lanes[case.name].result()
    assert_shown(lab, seen.described, case.cause, *case.words, "next try in ", " UTC)", "addresses in use")
    counted = {event["message"].partition(":")[0]: event["count"] for event in seen.events}
    assert counted.keys() == {case.cause}, "one event for one cause"
    assert counted[case.cause] >= case.tries
    assert IPv4Address(seen.address) in LabSpec().vswitches[1].cidr


def test_a_pod_of_a_full_node_starts_when_another_has_ended(lab: Lab, lanes: dict[str, Future[Seen]]) -> None:
    lanes["throttled"].result()
    others = [f"filler-{i}" for i in range(10)]
    create(lab, "node3", *others)
    held = {name: await_address(lab, name) for name in others}
    create(lab, "node3", "one-more")
    eventually("it is told", lambda: told(lab, "one-more", Cause.POOL_LIMIT))
    assert_told(
        lab, "one-more", Cause.POOL_LIMIT, "12 of 12 addresses in use", f"{TYPE} gives pods 2 ENIs of 6"
    )
    kubectl.run(lab, ["delete", "pod", others[0], "--wait=true"])
    # That one's address or another: with max_pool_size 0 a pool sync may have given it back meanwhile.
    assert await_address(lab, "one-more") not in [held[name] for name in others[1:]]
    causes = Counter(event["message"].partition(":")[0] for event in warnings(lab, "one-more"))
    assert causes.keys() <= {Cause.POOL_LIMIT, Cause.COOLING}
    assert set(causes.values()) == {1}


@pytest.fixture
def calm(lab: Lab, lanes: dict[str, Future[Seen]]) -> Iterator[None]:
    """No lane is under way, and afterwards the configuration is what it was."""
    for outcome in lanes.values():
        outcome.exception()
    yield
    lab.cloud.release(PODS_VSWITCH)
    product.configure(lab, max_pool_size=0)


@pytest.mark.usefixtures("calm")
def test_a_pod_of_a_full_vswitch_starts_when_that_has_grown(lab: Lab) -> None:
    lab.cloud.occupy(PODS_VSWITCH)
    create(lab, "node1", "vswitch-full")
    eventually("it is told", lambda: told(lab, "vswitch-full", Cause.VSWITCH_FULL))
    assert_told(
        lab, "vswitch-full", Cause.VSWITCH_FULL, PODS_VSWITCH, "add a vSwitch of this zone", "next try in"
    )
    lab.cloud.release(PODS_VSWITCH)
    await_address(lab, "vswitch-full")


@pytest.mark.usefixtures("calm")
def test_a_pod_of_a_full_vswitch_starts_when_eni_config_has_a_second_one(lab: Lab) -> None:
    lab.cloud.occupy(PODS_VSWITCH)
    create(lab, "node2", "second-vswitch")
    eventually("it is told", lambda: told(lab, "second-vswitch", Cause.VSWITCH_FULL))
    zone = LabSpec().vswitches[0].zone
    product.configure(lab, max_pool_size=0, vswitches={zone: [PODS_VSWITCH, NODES_VSWITCH]})
    product.restart(lab, quiet)
    assert IPv4Address(await_address(lab, "second-vswitch")) in LabSpec().vswitches[0].cidr


@pytest.mark.usefixtures("calm")
def test_a_pod_without_a_security_group_starts_when_eni_config_is_right(lab: Lab) -> None:
    case = Case("no-group", "node1", Cause.INVALID_SECURITY_GROUP, (), _ENI_FULL)
    product.configure(lab, max_pool_size=0, security_group="sg-none")
    product.restart(lab, quiet)
    with faulty(lab, case):
        create(lab, case.node, case.name)
        eventually("it is told", lambda: told(lab, case.name, case.cause))
        words = (
            "InvalidSecurityGroupId.NotFound",
            "correct `security_group`",
            "security group sg-none must exist",
        )
        assert_told(lab, case.name, case.cause, *words)
        product.configure(lab, max_pool_size=0)
        product.restart(lab, quiet)
        await_address(lab, case.name)


def test_nothing_is_left_half_made_or_idle(lab: Lab) -> None:
    """The last of the module. What a pool gives back it gives back at its sync, two minutes apart."""

    def held(node: str) -> tuple[set[str], set[str]]:
        secondary = [e for e in lab.node(node).status()["enis"] if e["type"] == "Secondary"]
        path = f"/api/v1/namespaces/default/pods?fieldSelector=spec.nodeName%3D{node}"
        pods = {p["status"].get("podIP", "") for p in lab.kubernetes.request("GET", path)["items"]}
        return {a for eni in secondary for a in eni["addresses"] if ":" not in a}, pods

    for node in NODES:
        enis, pods = held(node)
        assert enis == pods, node
    detached = [e for e in lab.cloud.state()["enis"] if e["status"] != "InUse"]
    assert detached == []
