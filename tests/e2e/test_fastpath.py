"""The eBPF fast path under terwayd: on by itself, off by whoever may say so, and never in the way."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from control.cli.client import Daemon
from lab.client import Lab
from lab.nodes import agent
from lab.nodes.node import LabNode
from lab.sandbox import LabPod, PodOptions
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6
from tests.e2e import benches
from tests.e2e.conftest import Bench
from tests.e2e.fastpath_rows import pins, rows_of_pods
from tests.e2e.witnesses import assert_agree, reaches, settled, until
from tests.netns.fastpath.flood import Flood

ANNOTATION = "k8s.aliyun.com/fast-path"


def asked(node: LabNode, path: str) -> Any:
    status, body = node.agent_get(path)
    assert status == 200, body
    return json.loads(body)


def window(node: LabNode) -> Daemon:
    return Daemon(f"unix:///proc/{node.pid}/root/{agent.WINDOW}")


def fast_packets(node: LabNode, pod: LabPod) -> int:
    """What the pod sent and got on the fast path."""
    row = endpoint_row(node, pod)
    return int(row["fast_out_packets"]) + int(row["fast_in_packets"])


def endpoint_row(node: LabNode, pod: LabPod) -> dict[str, Any]:
    rows = asked(node, "/bpf/endpoints")
    (mine,) = (r for r in rows if str(pod.ipv4) in r["addresses"])
    return dict(mine)


@contextmanager
def counted(node: LabNode, pod: LabPod, *, fast: bool) -> Iterator[None]:
    """Whether the pod's packets within the block took the fast path."""
    before = fast_packets(node, pod)
    yield
    assert (fast_packets(node, pod) > before) is fast


def test_on_by_itself_and_in_mode(node: Bench) -> None:
    node.start()
    pods = [node.pod(f"web-{i}") for i in range(2)]
    mode = asked(node.node, "/mode")
    assert (mode["in_force"]["bpf"], mode["in_force"]["datapath"], mode["because"]) == (True, "eBPF", [])
    for source, target in ((pods[0], pods[1].addresses), (pods[1], (OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6))):
        for address in target:
            with counted(node.node, source, fast=True):
                assert reaches(source, str(address))
    with counted(node.node, pods[0], fast=False):
        assert reaches(pods[0], node.node.address), "an address of the node itself is the stack's"
    assert_agree(node.lab, node.node)


def test_without_bpf_the_node_routes_and_says_so(node: Bench) -> None:
    """Also when an earlier terwayd had it on, and back again."""
    node.start()
    pods = [node.pod(f"web-{i}") for i in range(2)]
    assert rows_of_pods(node.node).keys() == {str(a) for p in pods for a in p.addresses}
    node.node.stop_agent()
    node.node.start_agent(["-bpf", "off"])
    assert asked(node.node, "/fastpath") == {
        "state": "unavailable",
        "asked": "on",
        "why": ["unavailable"],
        "because": ["no eBPF fast path: eBPF is switched off by -bpf off"],
    }
    assert not asked(node.node, "/mode")["in_force"]["bpf"]
    assert not pins(node.node)
    pods.append(node.pod("web-late"))
    for pod in pods:
        assert reaches(pods[0], str(pod.ipv4))
        assert reaches(pod, str(OUTSIDE_ADDRESS))
    node.node.stop_agent()
    node.start()
    assert rows_of_pods(node.node).keys() == {str(a) for p in pods for a in p.addresses}
    with counted(node.node, pods[2], fast=True):
        assert reaches(pods[0], str(pods[2].ipv4))


def test_a_kernel_that_has_none_is_a_node_that_routes(node: Bench) -> None:
    """Here it is the bpf file system that is missing, as on a node where nobody mounted it."""
    node.node.start_agent(["-bpf-pins", "/var/lib/no-bpffs"])
    pods = [node.pod(f"web-{i}") for i in range(2)]
    mode = asked(node.node, "/mode")
    assert not mode["in_force"]["bpf"]
    assert any("no eBPF fast path" in line for line in mode["because"])

    def told(events: list[dict[str, Any]]) -> bool:
        return any(e["reason"] == "FastPathOff" and "pods are routed" in e["message"] for e in events)

    until(lambda: node.lab.kubernetes.events("default"), told)
    assert reaches(pods[0], str(pods[1].ipv4))
    assert reaches(pods[0], str(OUTSIDE_ADDRESS))
    with pytest.raises(Exception, match="no eBPF fast path"):
        window(node.node).call("POST", "fastpath", "on")


def test_programs_that_cannot_be_followed_on_are_taken_away(node: Bench) -> None:
    """An image without its objects, a kernel that refuses the new ones: nobody tells the old ones of pods."""
    node.start()
    pods = [node.pod(f"web-{i}") for i in range(2)]
    assert pins(node.node)
    node.node.stop_agent(signal.SIGKILL)
    node.node.start_agent(["-bpf-objects", "/var/lib/no-objects"])
    assert asked(node.node, "/fastpath")["state"] == "unavailable"
    assert not pins(node.node)
    pods.append(node.pod("web-late"))
    for pod in pods:
        assert reaches(pods[0], str(pod.ipv4))
        assert reaches(pod, str(OUTSIDE_ADDRESS))
    node.node.stop_agent()
    node.start()
    assert rows_of_pods(node.node).keys() == {str(a) for p in pods for a in p.addresses}


def test_switching_at_run_time_loses_nothing_and_is_remembered(node: Bench) -> None:
    node.start()
    source, target = node.pod("web-0"), node.pod("web-1")
    with Flood(source.netns_fd(), target.netns_fd(), target.ipv4, rate=5000) as flood:
        for word in ("off", "on", "off"):
            told = window(node.node).call("POST", "fastpath", word)
            assert (told["state"], told["asked"]) == (word, word)
        _, _, lost = flood.stop()
    assert lost == 0
    assert "terway-cli fastpath off" in asked(node.node, "/mode")["because"][0]
    with counted(node.node, source, fast=False):
        assert reaches(source, str(target.ipv4))
    node.node.stop_agent(signal.SIGKILL)
    node.start()
    assert asked(node.node, "/fastpath")["state"] == "off", "the word outlives the daemon"
    window(node.node).call("POST", "fastpath", "on")
    with counted(node.node, source, fast=True):
        assert reaches(source, str(target.ipv4), port=8)


def test_a_pod_leaves_and_joins_by_its_annotation(node: Bench) -> None:
    node.start()
    slow = node.pod("web-0", options=PodOptions(annotations={ANNOTATION: "off"}))
    quick, other = node.pod("web-1"), node.pod("web-2")
    with counted(node.node, slow, fast=False), counted(node.node, quick, fast=False):
        assert reaches(quick, str(slow.ipv4))
        assert reaches(slow, str(OUTSIDE_ADDRESS))
    with counted(node.node, quick, fast=True):
        assert reaches(quick, str(other.ipv4))
    _annotate(node, slow, "on")
    until(lambda: rows_of_pods(node.node)[str(slow.ipv4)].off, lambda off: not off)
    _annotate(node, quick, "off")
    until(lambda: rows_of_pods(node.node)[str(quick.ipv4)].off, bool)
    node.node.stop_agent(signal.SIGKILL)
    node.start()
    assert rows_of_pods(node.node)[str(quick.ipv4)].off, "nobody forgets while the daemon is away"
    _annotate(node, quick, "sometimes")
    until(lambda: rows_of_pods(node.node)[str(quick.ipv4)].off, lambda off: not off)
    of_pods = node.node.name
    until(
        lambda: node.lab.kubernetes.events(of_pods),
        lambda es: "InvalidAnnotation" in {e["reason"] for e in es},
    )


def _annotate(node: Bench, pod: LabPod, word: str) -> None:
    path = f"/api/v1/namespaces/{pod.record.namespace}/pods/{pod.record.name}"
    node.lab.kubernetes.request("PATCH", path, {"metadata": {"annotations": {ANNOTATION: word}}})


def test_what_was_taken_away_comes_back(node: Bench) -> None:
    """Attachments and pins that somebody removed are put back by the next round, and it is said.

    An ENI's program stays where it is when its pin goes, as the agent holds the link open.
    """
    node.start()
    pod, other = node.pod("web-0"), node.pod("web-1")
    settled(node.node)
    link = next(a["host_link"] for a in settled(node.node)["attachments"] if a["ipv4"] == str(pod.ipv4))
    node.node.python(
        "from pyroute2 import IPRoute\n"
        f"with IPRoute() as n: n.tc('del', 'clsact', n.link_lookup(ifname='{link}')[0])\n"
    )
    node.node.exec(["sh", "-c", "rm /sys/fs/bpf/terway/links/ingress_*"])
    before = endpoint_row(node.node, pod)["fast_out_packets"]
    assert reaches(pod, str(OUTSIDE_ADDRESS), port=9)
    assert endpoint_row(node.node, pod)["fast_out_packets"] == before
    node.advance(61)
    until(node.node.agent_log, lambda log: "repaired fast path of" in log)
    with counted(node.node, pod, fast=True):
        assert reaches(pod, str(other.ipv4), port=10)
    assert_agree(node.lab, node.node)


def test_policy_that_nobody_enforces_is_said_once(lab: Lab) -> None:
    with benches.bench(lab) as made:
        made.node.exec(["rm", "/etc/eni/disable_network_policy"])
        for _ in range(2):
            made.start()
            assert any("NetworkPolicy is wanted" in line for line in asked(made.node, "/mode")["because"])
            made.node.stop_agent()
        events = [e for e in lab.kubernetes.events("default") if e["reason"] == "NetworkPolicyNotEnforced"]
        mine = [e for e in events if e["involvedObject"]["name"] == made.node.name]
        assert [e["count"] for e in mine] == [1]


def test_what_kube_proxy_translates_is_the_stacks(node: Bench) -> None:
    """A Service's ClusterIP, external addresses and load balancer, from when it is there until it is gone."""
    node.start()
    pod, kubernetes = node.pod("web"), node.lab.kubernetes
    told = {"198.51.100.7", "198.51.100.8"}
    assert not told & stack_destinations(node)
    service = {
        "metadata": {"name": "shop", "namespace": node.node.name},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "172.21.0.77",
            "clusterIPs": ["172.21.0.77"],
            "externalIPs": ["198.51.100.7"],
            "ports": [{"port": 80}],
        },
    }
    balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}}}
    path = f"/api/v1/namespaces/{node.node.name}/services"
    kubernetes.request("POST", path, service)
    kubernetes.request("PATCH", f"{path}/shop/status", balancer)
    until(lambda: stack_destinations(node), lambda found: found >= told)
    for address in ("172.21.0.77", *told):
        with counting(node, "stack_service") as grown:
            reaches(pod, address)
        assert grown[0] > 0, f"{address} is a Service's, by service_cidr or by its own"
    kubernetes.request("DELETE", f"{path}/shop")
    until(lambda: stack_destinations(node), lambda found: not found & told)


def test_a_node_that_never_heard_of_services_routes_until_it_has(node: Bench) -> None:
    node.lab.stop_kubernetes()
    try:
        node.start()
        status = asked(node.node, "/fastpath")
        assert (status["state"], status["why"]) == ("off", ["unknown"])
        assert any("not known yet" in line for line in asked(node.node, "/mode")["because"])
    finally:
        node.lab.start_kubernetes()
    until(lambda: asked(node.node, "/fastpath")["state"], lambda state: state == "on")
    node.node.stop_agent(signal.SIGKILL)
    node.lab.stop_kubernetes()
    try:
        node.start()
        assert asked(node.node, "/fastpath")["state"] == "on", "it remembers what it was told"
    finally:
        node.lab.start_kubernetes()


def stack_destinations(node: Bench) -> set[str]:
    """Single addresses among the prefixes that take the stack as Services'."""
    rows = asked(node.node, "/bpf/map/stack_prefixes")
    return {r["key"].removesuffix("/32") for r in rows if r["value"]["kind"] == "service"}


@contextmanager
def counting(node: Bench, reason: str) -> Iterator[list[int]]:
    """By how much a reason grew within the block, at whatever hook."""

    def total() -> int:
        rows = asked(node.node, "/bpf/counters")
        return sum(row["packets"] for row in rows if row["reason"] == reason)

    before, grown = total(), [0]
    yield grown
    grown[0] = total() - before
