"""A cluster without kube-proxy: agents and CoreDNS find the API server, pods talk by address."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.client import Lab, take_down
from lab.kubernetes import cluster
from lab.kubernetes.cluster import Wanted
from lab.spec import ProxyMode
from tests.e2e import cluster_site
from tests.e2e.cluster_site import deploy, inside, on, quiet

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

NAME = f"bare-{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """It is up only if agents and CoreDNS serve, which ask the API server for what they know."""
    try:
        running = cluster.up(Wanted(name=NAME, proxy=ProxyMode.NONE), quiet)
        deploy(running)
        yield running
        running.close()
    finally:
        take_down(NAME)


def test_no_proxy_runs_and_no_service_works(lab: Lab) -> None:
    for node in lab.nodes:
        programs = node.ask({"verb": "processes"})[0]["running"]
        assert {program["label"] for program in programs} >= {"kubelet", "containerd"}
        assert "kube-proxy" not in {program["label"] for program in programs}
        tables = node.exec(["nft", "list", "tables"], check=True).stdout.splitlines()
        assert tables == ["table inet terway"], "the agent's own, and nobody's who translates"


def test_pods_of_both_nodes_talk_by_address(lab: Lab) -> None:
    one, other = on(lab, "node1"), on(lab, "node2")
    for source, target in ((one, other), (other, one)):
        url = f"http://{target['status']['podIP']}:8080/"
        answer = inside(lab, source, "timeout", "5", "wget", "-qO-", url)
        assert answer.strip() == target["metadata"]["name"]


def test_cluster_dns_answers_by_its_pods_address(lab: Lab) -> None:
    """It has read Services from the API server."""
    path = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns"
    (dns,) = lab.kubernetes.request("GET", path)["items"]
    name = "web.default.svc.cluster.local"
    service = lab.kubernetes.request("GET", "/api/v1/namespaces/default/services/web")
    answer = inside(lab, on(lab, "node1"), "timeout", "5", "nslookup", name, dns["status"]["podIP"])
    assert service["spec"]["clusterIP"] in answer
