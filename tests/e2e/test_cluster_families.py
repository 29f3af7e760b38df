"""A cluster in dual stack, and one of IPv6: pods, Services, DNS and node ports in each of its families.

The agents are pods, so that they too find the API server by the primary family.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from lab import families
from lab.client import Lab, take_down
from lab.kubernetes import __main__ as command
from lab.kubernetes import cluster, kubectl
from lab.kubernetes.cluster import Wanted
from lab.spec import IpStack, LabSpec
from tests.e2e import cluster_site
from tests.e2e.cluster_site import deploy, inside, on, pods, quiet

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

_NODE_PORT = 30080
VERSIONS = {IpStack.DUAL: [4, 6], IpStack.IPV6: [6]}
"""Of nodes and Services, the primary one first."""


@pytest.fixture(
    scope="module", params=[IpStack.DUAL, pytest.param(IpStack.IPV6, marks=pytest.mark.long)], ids=str
)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """With the Deployment of four pods, and its Service in every family and at a port of the nodes."""
    name = f"{request.param}-{os.getpid()}"
    try:
        running = cluster.up(Wanted(name=name, ip_stack=request.param), quiet)
        deploy(running)
        policy = "RequireDualStack" if request.param is IpStack.DUAL else "SingleStack"
        port = {"port": 80, "targetPort": 8080, "nodePort": _NODE_PORT}
        patch = f'{{"spec": {{"type": "NodePort", "ipFamilyPolicy": "{policy}", "ports": [{port}]}}}}'
        kubectl.run(running, ["patch", "service", "web", "--patch", patch.replace("'", '"')])
        yield running
        running.close()
    finally:
        take_down(name)


@pytest.fixture
def versions(lab: Lab) -> list[int]:
    return VERSIONS[families.stack_of(lab.spec)]


def version(address: str) -> int:
    return ip_address(address).version


def url(address: str, port: int = 80) -> str:
    return f"http://[{address}]:{port}/" if version(address) == 6 else f"http://{address}:{port}/"


def service(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.kubernetes.request("GET", "/api/v1/namespaces/default/services/web")["spec"]
    return found


def addresses_of(node: dict[str, Any]) -> list[str]:
    return [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]


def fetched(lab: Lab, pod: dict[str, Any], target: str) -> str:
    return inside(lab, pod, "timeout", "10", "wget", "-qO-", target).strip()


def test_nodes_and_services_have_the_families_of_the_cluster(lab: Lab, versions: list[int]) -> None:
    nodes = lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
    assert [[version(a) for a in addresses_of(node)] for node in nodes] == [versions] * 2
    assert [version(a) for a in service(lab)["clusterIPs"]] == versions
    server = lab.kubernetes.request("GET", "/api/v1/namespaces/default/services/kubernetes")["spec"]
    assert [version(a) for a in server["clusterIPs"]] == versions[:1]


def test_pods_have_the_primary_family_first_and_the_agents_pair(lab: Lab, versions: list[int]) -> None:
    """In a cluster of IPv6 too: the agent has no word for IPv6 alone."""
    subnets = (LabSpec().vswitches[1].cidr, LabSpec().vswitches[1].cidr_v6)
    for pod in pods(lab):
        found = [ip_address(each["ip"]) for each in pod["status"]["podIPs"]]
        assert [a.version for a in found] == [versions[0], 10 - versions[0]]
        assert all(any(subnet is not None and a in subnet for subnet in subnets) for a in found)


def test_pods_of_two_nodes_talk_in_every_family(lab: Lab, versions: list[int]) -> None:
    one, other = on(lab, "node1"), on(lab, "node2")
    targets = [each["ip"] for each in other["status"]["podIPs"] if version(each["ip"]) in versions]
    assert len(targets) == len(versions)
    for address in targets:
        assert fetched(lab, one, url(address, 8080)) == other["metadata"]["name"]


def test_a_service_answers_in_every_family_to_pods_and_to_nodes(lab: Lab, versions: list[int]) -> None:
    names = {pod["metadata"]["name"] for pod in pods(lab)}
    assert len(service(lab)["clusterIPs"]) == len(versions)
    for address in service(lab)["clusterIPs"]:
        assert fetched(lab, on(lab, "node1"), url(address)) in names
        words = ["busybox", "wget", "-qO-", url(address)]
        assert lab.node("node2").exec(words, timeout=20.0, check=True).stdout.strip() in names


def test_names_lead_to_every_family_and_dns_answers_in_each(lab: Lab, versions: list[int]) -> None:
    servers = [str(a) for a in families.dns_services(families.stack_of(lab.spec))]
    assert [version(a) for a in servers] == versions
    for server in servers:
        words = ["nslookup", "web.default.svc.cluster.local", server]
        found = inside(lab, on(lab, "node2"), *words)
        assert all(address in found for address in service(lab)["clusterIPs"]), found
    assert fetched(lab, on(lab, "node1"), "http://web/") in {pod["metadata"]["name"] for pod in pods(lab)}


def test_a_node_port_answers_in_every_family(lab: Lab, versions: list[int]) -> None:
    names = {pod["metadata"]["name"] for pod in pods(lab)}
    nodes = lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
    (other,) = (node for node in nodes if node["metadata"]["name"] == "node2")
    assert len(addresses_of(other)) == len(versions)
    for address in addresses_of(other):
        words = ["busybox", "wget", "-qO-", url(address, _NODE_PORT)]
        assert lab.node("node1").exec(words, timeout=20.0, check=True).stdout.strip() in names


def test_a_pod_reaches_the_api_server(lab: Lab) -> None:
    inside(lab, on(lab, "node2"), "timeout", "10", "nc", "kubernetes.default", "443", "-e", "true")


def test_another_family_is_refused_while_it_is_up(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    stack = families.stack_of(lab.spec)
    assert command.main(["up", "--name", lab.name, "--ip-stack", "ipv4"]) == 1
    told = f"is up already, with --ip-stack {stack}; end it with `./run cluster --name {lab.name} down`"
    assert told in capsys.readouterr().err
