"""``pod`` and ``exists``: the cache, the GET behind it, and what they say when neither helps."""

from __future__ import annotations

import asyncio
import socket

import pytest

from control.kube.adapter import KubernetesAdapter
from control.kube.connection import Connection, Request
from control.model.errors import Cause, KubernetesError, PodNotFound
from control.model.ids import PodKey
from control.model.pod import Pod
from tests.unit.control_kube.cluster import NODE, Cluster, eventually, key
from tests.unit.control_kube.rude import RudeServer


def look_up(adapter: KubernetesAdapter, name: str, uid: str | None) -> Pod:
    return asyncio.run(adapter.pod(key(name), uid))


def detached(cluster: Cluster) -> KubernetesAdapter:
    """Synced once, its watch broken, and not to come back within the test."""
    adapter = cluster.synced(backoff_first=3600.0, backoff_cap=3600.0)
    cluster.away()
    eventually(lambda: not adapter.counts().pods.connected, "the watch is broken")
    return adapter


@pytest.mark.parametrize("any_uid", [False, True])
def test_hit_answers_without_leaving_the_event_loop(cluster: Cluster, any_uid: bool) -> None:
    uid = cluster.create("p")
    adapter = cluster.synced()
    steps = adapter.pod(key("p"), None if any_uid else uid)
    with pytest.raises(StopIteration) as done:
        steps.send(None)
    assert done.value.value.uid == uid
    assert adapter.counts().gets == 0
    assert cluster.count("/pods/p") == 0


def test_miss_asks_once_and_is_remembered(cluster: Cluster) -> None:
    adapter = detached(cluster)
    uid = cluster.create("p")
    cluster.back()
    assert look_up(adapter, "p", uid) == Pod(key("p"), uid, NODE)
    assert look_up(adapter, "p", uid).uid == uid
    assert cluster.count("/pods/p") == 1


def test_other_uid_asks_once_and_refreshes(cluster: Cluster) -> None:
    old = cluster.create("p")
    adapter = detached(cluster)
    cluster.remove("p")
    new = cluster.create("p")
    cluster.back()
    assert look_up(adapter, "p", old).uid == old, "the cache still has the old one"
    assert look_up(adapter, "p", new).uid == new
    assert look_up(adapter, "p", new).uid == new
    assert adapter.pods()[key("p")].uid == new
    assert cluster.count("/pods/p") == 1


def test_pod_that_was_replaced(cluster: Cluster) -> None:
    uid = cluster.create("p")
    adapter = cluster.synced()
    with pytest.raises(PodNotFound) as caught:
        look_up(adapter, "p", "of-an-older-pod")
    assert uid in str(caught.value)
    assert "of-an-older-pod" in str(caught.value)
    assert not caught.value.temporary


def test_pod_that_is_not_there(cluster: Cluster) -> None:
    adapter = cluster.synced()
    with pytest.raises(PodNotFound, match="default/absent"):
        look_up(adapter, "absent", None)
    assert cluster.count("/pods/absent") == 1


@pytest.mark.parametrize("odd", [PodKey("default", ""), PodKey("", "p"), PodKey("default", "../nodes")])
def test_odd_names_find_nothing(cluster: Cluster, odd: PodKey) -> None:
    cluster.create("p")
    adapter = cluster.synced()
    with pytest.raises(PodNotFound):
        asyncio.run(adapter.pod(odd, None))


def test_pod_of_another_node_is_told_but_not_cached(cluster: Cluster) -> None:
    uid = cluster.create("p", node="node2")
    adapter = cluster.synced()
    assert look_up(adapter, "p", uid).node == "node2"
    assert not adapter.pods()


def test_static_pod_goes_by_the_kubelets_uid(cluster: Cluster) -> None:
    uid = cluster.create("static", annotations={"kubernetes.io/config.hash": "abcdef"})
    adapter = cluster.synced()
    assert look_up(adapter, "static", "abcdef").uid == uid
    assert asyncio.run(adapter.exists(key("static"), "abcdef"))


def test_server_away_from_the_start(cluster: Cluster) -> None:
    uid = cluster.create("p")
    cluster.away()
    adapter = cluster.adapter()
    adapter.start()
    with pytest.raises(KubernetesError) as caught:
        look_up(adapter, "p", uid)
    assert caught.value.cause is Cause.KUBERNETES
    assert caught.value.temporary
    assert "GET /api/v1/namespaces/default/pods/p" in str(caught.value)
    assert "check that the API server" in str(caught.value)
    assert not adapter.synced()
    assert not adapter.pods()
    cluster.back()
    eventually(adapter.synced, "the cache is synced")
    assert look_up(adapter, "p", uid).uid == uid
    assert cluster.count("/pods/p") == 0


def test_server_away_later(cluster: Cluster) -> None:
    uid = cluster.create("p")
    adapter = cluster.synced()
    cluster.away()
    assert look_up(adapter, "p", uid).uid == uid
    with pytest.raises(KubernetesError):
        look_up(adapter, "p", "another")
    with pytest.raises(KubernetesError):
        asyncio.run(adapter.exists(key("p"), uid))
    assert adapter.synced()


def test_exists_looks_past_the_cache(cluster: Cluster) -> None:
    uid = cluster.create("p")
    adapter = detached(cluster)
    cluster.back()
    assert asyncio.run(adapter.exists(key("p"), uid))
    assert not asyncio.run(adapter.exists(key("p"), "another"))
    cluster.remove("p")
    assert key("p") in adapter.pods()
    assert not asyncio.run(adapter.exists(key("p"), uid))


def test_lookups_of_a_burst_run_side_by_side(cluster: Cluster) -> None:
    adapter = detached(cluster)
    uids = {f"p{i}": cluster.create(f"p{i}") for i in range(30)}
    cluster.back()

    async def all_of_them() -> list[Pod]:
        return await asyncio.gather(*(adapter.pod(key(name), uid) for name, uid in uids.items()))

    assert {pod.key.name: pod.uid for pod in asyncio.run(all_of_them())} == uids
    assert adapter.counts().gets == 30


def test_server_that_never_answers(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        adapter = cluster.adapter(url=url, get_timeout=0.05)
        with pytest.raises(KubernetesError) as caught:
            look_up(adapter, "p", None)
    assert caught.value.temporary


def test_get_on_a_connection_that_dies_is_sent_once_more(cluster: Cluster) -> None:
    request = Request("GET", "/api/v1/nodes/n")
    with RudeServer(1, 1).running() as server:
        connection = Connection(cluster.config(url=server.url))
        assert connection.call(request, timeout=5) == {}
        assert connection.call(request, timeout=5) == {}
        assert len(server.requests) == 3, "the second try of the second call made the difference"
        with pytest.raises(KubernetesError):
            connection.call(request, timeout=5)
        assert len(server.requests) == 5
        connection.close()


def test_write_on_a_connection_that_dies_is_not(cluster: Cluster) -> None:
    with RudeServer().running() as server:
        connection = Connection(cluster.config(url=server.url))
        with pytest.raises(KubernetesError) as caught:
            connection.call(Request("POST", "/api/v1/nodes", body={"a": 1}), timeout=5)
        assert server.requests == ["POST /api/v1/nodes HTTP/1.1"]
        connection.close()
    assert caught.value.temporary
