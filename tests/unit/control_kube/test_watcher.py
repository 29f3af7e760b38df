"""The watch cache through the life of its server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.kube.server import ServerOptions
from tests.unit.control_kube.cluster import Cluster, eventually, key


@pytest.fixture(params=[False, True], ids=["error-event", "http-status"])
def forgetful(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(ServerOptions(gone_as_status=request.param))
    try:
        yield made
    finally:
        made.close()


def test_only_pods_of_the_node(cluster: Cluster) -> None:
    cluster.create("mine")
    cluster.create("other", node="node2")
    adapter = cluster.synced()
    assert set(adapter.pods()) == {key("mine")}


def test_pods_come_change_and_go(cluster: Cluster) -> None:
    adapter = cluster.synced()
    cluster.create("p")
    eventually(lambda: key("p") in adapter.pods(), "p is cached")
    before = adapter.pods()
    cluster.patch("p", {"metadata": {"annotations": {"k8s.aliyun.com/pod-eni": "true"}}})
    eventually(lambda: bool(adapter.pods()[key("p")].annotations), "p's annotation is cached")
    cluster.patch("p", {"status": {"phase": "Succeeded"}}, "status")
    eventually(lambda: adapter.pods()[key("p")].sandbox_exited, "p has ended")
    cluster.remove("p")
    eventually(lambda: key("p") not in adapter.pods(), "p is gone")
    assert not before[key("p")].sandbox_exited, "what was read does not change"


def test_watch_goes_on_after_an_outage(cluster: Cluster) -> None:
    cluster.create("a")
    adapter = cluster.synced()
    cluster.away()
    eventually(lambda: not adapter.counts().pods.connected, "the watch is broken")
    assert set(adapter.pods()) == {key("a")}
    cluster.remove("a")
    cluster.create("b")
    cluster.back()
    eventually(lambda: set(adapter.pods()) == {key("b")}, "the cache has caught up")
    eventually(lambda: adapter.counts().pods.connected, "the watch stands")
    assert adapter.counts().pods.lists == 1
    assert adapter.counts().pods.failures > 0


def test_forgotten_revision_means_a_new_list(forgetful: Cluster) -> None:
    forgetful.create("a")
    adapter = forgetful.synced()
    forgetful.away()
    forgetful.remove("a")
    forgetful.create("b")
    forgetful.store.history.compact()
    forgetful.back()
    eventually(lambda: set(adapter.pods()) == {key("b")}, "the cache was listed anew")
    assert adapter.counts().pods.lists == 2
    forgetful.create("c")
    eventually(lambda: key("c") in adapter.pods(), "the watch goes on")


def test_bookmarks_move_the_position() -> None:
    cluster = Cluster(ServerOptions(bookmark_every=0.02))
    try:
        adapter = cluster.synced()
        cluster.create("elsewhere", node="node2")
        revision = cluster.store.history.revision
        eventually(lambda: adapter.position() >= revision, "a bookmark was read")
        cluster.away()
        cluster.store.history.compact(revision)
        cluster.create("mine")
        cluster.back()
        eventually(lambda: key("mine") in adapter.pods(), "the watch goes on from the bookmark")
        assert adapter.counts().pods.lists == 1
    finally:
        cluster.close()


def test_watch_is_renewed_when_its_time_is_up(cluster: Cluster) -> None:
    adapter = cluster.synced(watch_seconds=1)
    watches = cluster.watches("pods")
    eventually(lambda: cluster.watches("pods") > watches, "a second watch began")
    cluster.create("p")
    eventually(lambda: key("p") in adapter.pods(), "and tells")
    assert adapter.counts().pods.failures == 0


def test_unreadable_answer_is_survived(cluster: Cluster) -> None:
    adapter = cluster.synced()
    cluster.create("p")
    eventually(lambda: key("p") in adapter.pods(), "p is cached")
    asked = cluster.count("/api/v1/pods?")
    cluster.patch("p", {"metadata": {"ownerReferences": ["not an object"]}})
    eventually(lambda: cluster.count("/api/v1/pods?") > asked, "the watcher tries again")
    cluster.patch("p", {"metadata": {"ownerReferences": None, "labels": {"a": "b"}}})
    eventually(lambda: adapter.pods()[key("p")].labels == {"a": "b"}, "and reads on")
