"""Services and the ranges of their addresses, as the agent asks for them; and the agent's view of them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from control.kube.adapter import KubernetesAdapter
from control.kube.connection import KubernetesConfig
from control.model.clock import SystemClock
from tests.contract.kube.kube import Json, Kube, seen, unique

_SERVICES = "/api/v1/services"
_RANGES = "/apis/networking.k8s.io/v1/servicecidrs"
_DEADLINE_SECONDS = 120.0


@pytest.fixture
def ranges(kube: Kube) -> Iterator[Callable[[str], str]]:
    """Makes a ServiceCIDR of one range and returns its name."""
    made: list[str] = []

    def make(cidr: str) -> str:
        name = unique("range")
        answer = kube.request("POST", _RANGES, {"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})
        assert answer.status == 201, answer
        made.append(name)
        return name

    yield make
    for name in made:
        kube.request("DELETE", f"{_RANGES}/{name}")


def cluster_ip() -> str:
    """One that the real server gives: in its range, and hardly twice."""
    return f"10.96.{random.randrange(1, 255)}.{random.randrange(1, 255)}"


def create(kube: Kube, name: str, **spec: Any) -> Json:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
    answer = kube.request("POST", "services", body)
    assert answer.status == 201, answer
    return answer.body


def balance(kube: Kube, name: str, *ingress: Json) -> None:
    answer = kube.patch(f"services/{name}/status", {"status": {"loadBalancer": {"ingress": list(ingress)}}})
    assert answer.status == 200, answer


def test_services_are_told_over_all_namespaces(kube: Kube) -> None:
    address = cluster_ip()
    with kube.watch(_SERVICES, resourceVersion=kube.revision(_SERVICES)) as events:
        create(kube, "web", clusterIP=address, type="LoadBalancer", externalIPs=["198.51.100.7"])
        balance(kube, "web", {"ip": "203.0.113.9"}, {"ip": "203.0.113.10", "ipMode": "Proxy"})
        deleted = kube.request("DELETE", "services/web")
        told = [next(events) for _ in range(3)]
    assert [seen(event) for event in told] == [("ADDED", "web"), ("MODIFIED", "web"), ("DELETED", "web")]
    spec, status = told[1]["object"]["spec"], told[1]["object"]["status"]
    assert (spec["clusterIP"], spec["externalIPs"]) == (address, ["198.51.100.7"])
    assert [one["ip"] for one in status["loadBalancer"]["ingress"]] == ["203.0.113.9", "203.0.113.10"]
    assert status["loadBalancer"]["ingress"][1]["ipMode"] == "Proxy"
    assert (deleted.status, deleted.body["metadata"]["name"]) == (200, "web")


def test_limit_counts_for_the_newest_state_only(kube: Kube) -> None:
    for name in ("a", "b", "c"):
        create(kube, name, clusterIP="None")
    newest = kube.request("GET", "services?limit=2")
    assert len(newest.body["items"]) == 2
    assert newest.body["metadata"]["continue"]
    cached = kube.request("GET", "services?limit=2&resourceVersion=0")
    assert len(cached.body["items"]) == 3
    assert not cached.body["metadata"].get("continue")


def test_ranges_are_objects_of_the_cluster(kube: Kube, ranges: Callable[[str], str]) -> None:
    with kube.watch(_RANGES, resourceVersion=kube.revision(_RANGES)) as events:
        name = ranges("10.97.4.0/24")
        assert seen(next(events)) == ("ADDED", name)
    listed = kube.request("GET", _RANGES).body
    assert listed["kind"] == "ServiceCIDRList"
    cidrs = {item["metadata"]["name"]: item["spec"]["cidrs"] for item in listed["items"]}
    assert cidrs[name] == ["10.97.4.0/24"]
    assert kube.request("GET", f"{_RANGES}/{name}").body["kind"] == "ServiceCIDR"


def test_agent_knows_what_is_translated(kube: Kube, ranges: Callable[[str], str], tmp_path: Path) -> None:
    ranges("10.97.5.0/24")
    create(kube, "web", type="LoadBalancer", clusterIP="10.97.5.9", externalIPs=["198.51.100.7"])
    balance(kube, "web", {"ip": "203.0.113.9"}, {"ip": "203.0.113.10", "ipMode": "Proxy"})
    create(kube, "headless", clusterIP="None", externalIPs=["198.51.100.8"])
    adapter = KubernetesAdapter(
        KubernetesConfig("node1", kubeconfig=kubeconfig(kube, tmp_path)), SystemClock()
    )
    try:
        adapter.on_services(lambda: None)
        _eventually(lambda: adapter.service_addresses() is not None, "the first list is read")
        assert _of_test(adapter) == {"198.51.100.7", "203.0.113.9"}
        assert ip_network("10.97.5.0/24") in (adapter.service_cidrs() or ())
        balance(kube, "web", {"ip": "203.0.113.11"})
        _eventually(lambda: _of_test(adapter) == {"198.51.100.7", "203.0.113.11"}, "the watch tells")
    finally:
        asyncio.run(adapter.close())


def kubeconfig(kube: Kube, directory: Path) -> str:
    """The path of one for the server's own client."""
    configuration = kube.api.configuration
    cluster: Json = {"server": configuration.host}
    if configuration.host.startswith("https"):
        cluster["certificate-authority"] = configuration.ssl_ca_cert
    token = configuration.api_key.get("BearerToken", "Bearer none").removeprefix("Bearer ")
    path = directory / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


def _of_test(adapter: KubernetesAdapter) -> set[str]:
    """Without what other tests have left: from documentation ranges only, and no ClusterIP."""
    known = (ip_network("198.51.100.0/24"), ip_network("203.0.113.0/24"), ip_network("10.97.5.0/24"))
    found = adapter.service_addresses() or frozenset()
    assert ip_address("10.97.5.9") not in found
    return {str(address) for address in found if any(address in network for network in known)}


def _eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.01)
