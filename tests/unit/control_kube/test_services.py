"""The watch of Services, and where the ranges of their addresses come from."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from control.kube.adapter import KubernetesAdapter
from control.kube.connection import Connection, Refused
from control.kube.service_cidrs import KUBEADM, SERVICE_CIDRS, ServiceCidrs, cidrs_of_kubeadm
from control.model.errors import KubernetesError
from lab.kube.patches import MERGE_PATCH, Patch
from lab.kube.resources import CONFIGMAPS, Resource
from lab.kube.store import Preconditions, Target
from tests.unit.control_kube.cluster import Cluster, eventually

_RANGE = ip_network("10.96.0.0/16")


def resource(cluster: Cluster, path: str) -> Resource:
    group, version, plural = path.split("/")
    return cluster.store.resources.find(group, version, plural)


def create(cluster: Cluster, name: str, **spec: Any) -> None:
    target = Target(resource(cluster, "/v1/services"), "default")
    cluster.store.create(target, {"metadata": {"name": name}, "spec": spec})


def remove(cluster: Cluster, name: str) -> None:
    cluster.store.delete(Target(resource(cluster, "/v1/services"), "default", name), Preconditions())


def patch(cluster: Cluster, name: str, document: Any, subresource: str = "") -> None:
    target = Target(resource(cluster, "/v1/services"), "default", name, subresource)
    cluster.store.patch(target, Patch(MERGE_PATCH, document))


def balance(cluster: Cluster, name: str, *ingress: Any) -> None:
    patch(cluster, name, {"status": {"loadBalancer": {"ingress": list(ingress)}}}, "status")


def add_range(cluster: Cluster, name: str, *cidrs: str) -> None:
    target = Target(resource(cluster, "networking.k8s.io/v1/servicecidrs"))
    cluster.store.create(target, {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}})


def add_kubeadm(cluster: Cluster, configuration: str) -> None:
    body = {"metadata": {"name": "kubeadm-config"}, "data": {"ClusterConfiguration": configuration}}
    cluster.store.create(Target(CONFIGMAPS, "kube-system"), body)


def watching(cluster: Cluster, **changes: Any) -> KubernetesAdapter:
    """With its first list of Services read and the watch of them standing."""
    adapter = cluster.adapter(**changes)
    watches = cluster.watches("services")
    adapter.on_services(lambda: None)
    eventually(lambda: cluster.watches("services") > watches, "the Services are watched")
    return adapter


def translated(adapter: KubernetesAdapter) -> set[str]:
    return {str(address) for address in adapter.service_addresses() or ()}


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, status: int, *parts: str) -> Iterator[None]:
    """Requests whose path contains one of ``parts`` are refused with ``status``."""
    whole = Connection.call

    def call(self: Connection, request: Any, *, timeout: float) -> Any:
        if any(part in request.path for part in parts):
            raise Refused(f"{request} was refused", status=status, reason="Tested")
        return whole(self, request, timeout=timeout)

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "call", call)
        yield


# The watch


def test_nothing_is_watched_until_somebody_asks(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", str(_RANGE))
    adapter = cluster.synced()
    assert cluster.count("/services") == 0
    assert cluster.count("servicecidrs") == 0
    assert adapter.service_addresses() is None
    assert adapter.service_cidrs() is None
    for _ in range(2):
        adapter.on_services(lambda: None)
    eventually(lambda: adapter.service_addresses() == frozenset(), "the Services are listed")
    assert adapter.counts().services.lists == 1


def test_the_cluster_is_told_by_its_own_service(cluster: Cluster) -> None:
    adapter = cluster.synced()
    assert asyncio.run(adapter.cluster_id()) == ""
    create(cluster, "web", clusterIP="10.96.0.9")
    create(cluster, "kubernetes", clusterIP="10.96.0.1")
    target = Target(resource(cluster, "/v1/services"), "default", "kubernetes")
    assert asyncio.run(adapter.cluster_id()) == cluster.store.get(target).value["metadata"]["uid"]


def test_services_come_change_and_go(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", str(_RANGE))
    create(cluster, "quiet", clusterIP="10.96.0.9")
    adapter = watching(cluster)
    assert translated(adapter) == set()
    create(cluster, "web", clusterIP="10.96.0.10", externalIPs=["198.51.100.7"])
    eventually(lambda: translated(adapter) == {"198.51.100.7"}, "the external address is known")
    balance(cluster, "web", {"ip": "203.0.113.9"}, {"ip": "203.0.113.10", "ipMode": "Proxy"})
    eventually(lambda: translated(adapter) == {"198.51.100.7", "203.0.113.9"}, "so is the balancer's")
    patch(cluster, "web", {"spec": {"externalIPs": None}})
    eventually(lambda: translated(adapter) == {"203.0.113.9"}, "an address has left")
    remove(cluster, "web")
    eventually(lambda: translated(adapter) == set(), "the Service has gone")


def test_change_is_told_when_it_can_be_seen(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", str(_RANGE))
    adapter = cluster.adapter()
    seen: list[tuple[Any, set[str]]] = []
    adapter.on_services(lambda: seen.append((adapter.service_cidrs(), translated(adapter))))
    eventually(lambda: len(seen) == 1, "the first list is told")
    create(cluster, "web", clusterIP="10.96.0.10", externalIPs=["198.51.100.7"])
    eventually(lambda: len(seen) == 2, "the change is told")
    assert seen == [((_RANGE,), set()), ((_RANGE,), {"198.51.100.7"})]


def test_watch_goes_on_after_an_outage(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", str(_RANGE))
    create(cluster, "a", clusterIP="10.96.0.10", externalIPs=["198.51.100.1"])
    adapter = watching(cluster)
    cluster.away()
    eventually(lambda: not adapter.counts().services.connected, "the watch is broken")
    remove(cluster, "a")
    create(cluster, "b", clusterIP="10.96.0.11", externalIPs=["198.51.100.2"])
    assert translated(adapter) == {"198.51.100.1"}
    cluster.back()
    eventually(lambda: translated(adapter) == {"198.51.100.2"}, "the watch has caught up")
    assert adapter.counts().services.lists == 1


def test_forgotten_revision_means_a_new_list_and_new_ranges(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", str(_RANGE))
    create(cluster, "a", clusterIP="10.96.0.10", externalIPs=["198.51.100.1"])
    create(cluster, "outside", clusterIP="10.97.0.10")
    adapter = watching(cluster)
    assert translated(adapter) == {"198.51.100.1", "10.97.0.10"}
    cluster.away()
    remove(cluster, "a")
    add_range(cluster, "second", "10.97.0.0/16")
    cluster.store.history.compact()
    cluster.back()
    eventually(lambda: translated(adapter) == set(), "the Services were listed anew")
    assert adapter.service_cidrs() == (_RANGE, ip_network("10.97.0.0/16"))


def test_list_of_the_newest_state_is_read_in_pages(cluster: Cluster) -> None:
    """A first list that makes no sense is followed by one past the server's cache, which pages bound."""
    for number in range(1100):
        create(cluster, f"s{number}", clusterIP=f"172.21.{number // 250}.{number % 250}")
    balance(cluster, "s7", "not an object")
    adapter = cluster.adapter()
    adapter.on_services(lambda: None)
    eventually(lambda: cluster.count("services?limit=500") > 0, "it lists past the cache")
    assert adapter.service_addresses() is None
    balance(cluster, "s7", {"ip": "203.0.113.9"})
    eventually(lambda: adapter.service_addresses() is not None, "the list is read")
    assert len(translated(adapter)) == 1101
    assert cluster.count("continue=") == cluster.count("limit=500&continue=") >= 2
    eventually(lambda: cluster.watches("services") > 0, "the watch goes on from the list")
    remove(cluster, "s1099")
    eventually(lambda: "172.21.4.99" not in translated(adapter), "and tells")


def test_services_that_may_not_be_listed_leave_pods_alone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Connection.stream

    def stream(self: Connection, request: Any, *, connect: float, idle: float) -> Any:
        if request.path == "/api/v1/services":
            raise Refused(f"{request} was refused", status=403, reason="Forbidden", remedy="allow it")
        return whole(self, request, connect=connect, idle=idle)

    monkeypatch.setattr(Connection, "stream", stream)
    cluster.create("p")
    adapter = cluster.synced()
    adapter.on_services(lambda: None)
    eventually(lambda: adapter.counts().services.failures > 3, "it has been refused more than once")
    assert adapter.service_addresses() is None
    assert adapter.counts().pods.connected
    warned = [one for one in caplog.records if one.levelno == logging.WARNING and "services" in one.message]
    assert len(warned) == 1
    assert "allow it" in warned[0].message


def test_closing_ends_both_watches(cluster: Cluster) -> None:
    before = set(threading.enumerate())
    adapter = watching(cluster)
    adapter.start()
    eventually(lambda: cluster.watches("pods") > 0, "pods are watched")
    adapter.close_now()
    left = [t.name for t in set(threading.enumerate()) - before if t.name == "kube-watch" and t.is_alive()]
    assert left == []


# The ranges


def test_configured_ranges_spare_the_question(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", "10.97.0.0/16")
    create(cluster, "inside", clusterIP="10.96.0.10")
    create(cluster, "outside", clusterIP="10.97.0.10")
    adapter = cluster.adapter(service_cidrs=(_RANGE,))
    assert adapter.service_cidrs() == (_RANGE,)
    adapter.on_services(lambda: None)
    eventually(lambda: translated(adapter) == {"10.97.0.10"}, "the Services are listed")
    assert cluster.count("servicecidrs") == cluster.count("kubeadm-config") == 0


def test_ranges_of_both_families_and_of_several_objects(cluster: Cluster) -> None:
    add_range(cluster, "kubernetes", str(_RANGE), "fd00:96::/112")
    add_range(cluster, "second", "10.97.0.0/16")
    adapter = watching(cluster)
    expected = (_RANGE, ip_network("10.97.0.0/16"), ip_network("fd00:96::/112"))
    assert adapter.service_cidrs() == expected
    assert cluster.count("kubeadm-config") == 0


def test_kubeadm_knows_what_an_old_server_does_not(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    add_kubeadm(cluster, "networking:\n  serviceSubnet: 10.96.0.0/16\n")
    with refusing(monkeypatch, 404, SERVICE_CIDRS):
        adapter = watching(cluster)
    assert adapter.service_cidrs() == (_RANGE,)


@pytest.mark.parametrize("status", [403, 404])
def test_unknown_ranges_are_said_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    create(cluster, "web", clusterIP="10.96.0.10", clusterIPs=["10.96.0.10", "fd00:96::10"])
    connection = Connection(cluster.config())
    cidrs = ServiceCidrs(connection, (), 5)
    with refusing(monkeypatch, status, SERVICE_CIDRS, KUBEADM):
        for _ in range(3):
            cidrs.look_up()
        said = [record.message for record in caplog.records]
        adapter = watching(cluster)
    connection.close()
    assert cidrs.known is None
    assert len(said) == 1
    for remedy in ("service_cidr in eni_conf", "servicecidrs", SERVICE_CIDRS):
        assert remedy in said[0]
    assert adapter.service_cidrs() is None
    assert translated(adapter) == {"10.96.0.10", "fd00:96::10"}


def test_ranges_once_known_stay_known(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_range(cluster, "kubernetes", str(_RANGE))
    connection = Connection(cluster.config())
    cidrs = ServiceCidrs(connection, (), 5)
    cidrs.look_up()
    with refusing(monkeypatch, 403, SERVICE_CIDRS, KUBEADM):
        cidrs.look_up()
    connection.close()
    assert cidrs.known == (_RANGE,)
    assert not caplog.records


def test_server_that_does_not_answer_is_asked_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal for the moment is no answer: the range may be there."""
    add_range(cluster, "kubernetes", str(_RANGE))
    create(cluster, "web", clusterIP="10.96.0.10")
    adapter = cluster.adapter()
    connection = Connection(cluster.config())
    with refusing(monkeypatch, 503, SERVICE_CIDRS):
        adapter.on_services(lambda: None)
        eventually(lambda: adapter.counts().services.failures > 1, "it has been asked twice")
        assert adapter.service_addresses() is None
        with pytest.raises(KubernetesError):
            ServiceCidrs(connection, (), 5).look_up()
    connection.close()
    eventually(lambda: adapter.service_addresses() == frozenset(), "the Services are listed")
    assert adapter.service_cidrs() == (_RANGE,)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("networking:\n  serviceSubnet: 10.96.0.0/16", ("10.96.0.0/16",)),
        ("networking:\n  serviceSubnet: fd00::/112,10.96.0.0/16", ("10.96.0.0/16", "fd00::/112")),
        ("networking: {serviceSubnet: '10.96.0.0/16, fd00::/112'}", ("10.96.0.0/16", "fd00::/112")),
        (json.dumps({"networking": {"serviceSubnet": "10.96.0.0/16"}}), ("10.96.0.0/16",)),
        ("networking:\n  podSubnet: 10.244.0.0/16", ()),
        ("networking:\n  serviceSubnet: null", ()),
        ("networking:\n  serviceSubnet: nonsense", ()),
        ("networking: 12", ()),
        ("a: [", ()),
        ("", ()),
    ],
)
def test_ranges_in_kubeadms_words(configuration: str, expected: tuple[str, ...]) -> None:
    found = cidrs_of_kubeadm({"data": {"ClusterConfiguration": configuration}})
    assert tuple(str(network) for network in found) == expected


def test_configmap_without_data() -> None:
    assert cidrs_of_kubeadm({}) == ()
