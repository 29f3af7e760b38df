"""Watches: what is told, in which order, from where, and how a watch ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from kubernetes import client
from kubernetes.watch import Watch

from tests.contract.kube.kube import Json, Kube, pod_body, seen, unique


def take(events: Iterator[Json], count: int) -> list[Json]:
    taken = list(islice(events, count))
    assert len(taken) == count, f"the watch ended early, after {taken}"
    return taken


def test_changes_after_a_revision(kube: Kube) -> None:
    kube.configmap("before")
    with kube.watch("configmaps", resourceVersion=kube.revision()) as events:
        kube.configmap("c")
        kube.patch("configmaps/c", {"data": {"key": "2"}})
        kube.request("DELETE", "configmaps/c")
        told = take(events, 3)
    assert [seen(event) for event in told] == [("ADDED", "c"), ("MODIFIED", "c"), ("DELETED", "c")]
    assert told[1]["object"]["data"] == {"key": "2"}
    assert told[1]["object"]["kind"] == "ConfigMap"
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in told]
    assert revisions == sorted(set(revisions))


def test_past_changes_are_told_again(kube: Kube) -> None:
    start = kube.revision()
    kube.configmap("a")
    kube.configmap("b")
    with kube.watch("configmaps", resourceVersion=start) as events:
        assert [seen(event) for event in take(events, 2)] == [("ADDED", "a"), ("ADDED", "b")]


def test_watch_without_revision_begins_with_what_is_there(kube: Kube) -> None:
    kube.configmap("a")
    kube.configmap("b")
    with kube.watch("configmaps") as events:
        assert {seen(event) for event in take(events, 2)} == {("ADDED", "a"), ("ADDED", "b")}
        kube.configmap("c")
        assert seen(take(events, 1)[0]) == ("ADDED", "c")


def test_other_namespaces_are_not_told(kube: Kube) -> None:
    with kube.watch("configmaps", resourceVersion=kube.revision()) as events:
        change_elsewhere(kube)
        kube.configmap("mine")
        assert seen(take(events, 1)[0]) == ("ADDED", "mine")


def test_objects_enter_and_leave_a_selection(kube: Kube) -> None:
    kube.configmap("c")
    with kube.watch("configmaps", resourceVersion=kube.revision(), labelSelector="x=1") as events:
        kube.patch("configmaps/c", {"metadata": {"labels": {"x": "1"}}})
        kube.patch("configmaps/c", {"data": {"key": "2"}})
        kube.patch("configmaps/c", {"metadata": {"labels": {"x": "2"}}})
        kube.patch("configmaps/c", {"data": {"key": "3"}})
        kube.configmap("d", labels={"x": "1"})
        told = [seen(event) for event in take(events, 4)]
    assert told == [("ADDED", "c"), ("MODIFIED", "c"), ("DELETED", "c"), ("ADDED", "d")]


def test_pods_of_a_node(kube: Kube) -> None:
    node = unique("node")
    query = {"fieldSelector": f"spec.nodeName={node}", "resourceVersion": kube.revision("pods")}
    with kube.watch("/api/v1/pods", **query) as events:
        kube.pod("elsewhere")
        kube.pod("p")
        kube.request("POST", "pods/p/binding", {"metadata": {"name": "p"}, "target": {"name": node}})
        assert seen(take(events, 1)[0]) == ("ADDED", "p")
        kube.patch("pods/p/status", {"status": {"phase": "Succeeded"}})
        assert seen(take(events, 1)[0]) == ("MODIFIED", "p")
        kube.request("DELETE", "pods/p", {"gracePeriodSeconds": 0})
        marked, gone = take(events, 2)
        assert (seen(marked), seen(gone)) == (("MODIFIED", "p"), ("DELETED", "p"))
        assert marked["object"]["metadata"]["deletionTimestamp"]


def change_elsewhere(kube: Kube) -> int:
    """Create and delete an object of the same kind in another namespace; returns the last revision."""
    path = "/api/v1/namespaces/default/configmaps"
    name = unique("elsewhere")
    assert kube.request("POST", path, {"metadata": {"name": name}}).status == 201
    kube.request("DELETE", f"{path}/{name}")
    return int(kube.revision())


def test_bookmark_tells_how_far_a_watch_has_come(kube: Kube) -> None:
    query = {"allowWatchBookmarks": "true", "timeoutSeconds": "4", "resourceVersion": kube.revision()}
    with kube.watch("configmaps", **query) as events:
        passed = change_elsewhere(kube)
        told = list(events)
    assert told
    assert {event["type"] for event in told} == {"BOOKMARK"}
    bookmark = told[-1]["object"]
    assert bookmark["kind"] == "ConfigMap"
    assert int(bookmark["metadata"]["resourceVersion"]) >= passed
    assert not bookmark["metadata"].get("name")


def test_no_bookmark_while_nothing_moves(kube: Kube) -> None:
    query = {"allowWatchBookmarks": "true", "timeoutSeconds": "3", "resourceVersion": kube.revision()}
    with kube.watch("configmaps", **query) as events:
        assert list(events) == []


def test_no_bookmark_unless_asked_for(kube: Kube) -> None:
    with kube.watch("configmaps", timeoutSeconds="3", resourceVersion=kube.revision()) as events:
        change_elsewhere(kube)
        assert list(events) == []


def test_initial_events_end_with_a_bookmark(kube: Kube) -> None:
    kube.configmap("a")
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with kube.watch("configmaps", **query) as events:
        first, second = take(events, 2)
        assert seen(first) == ("ADDED", "a")
        assert second["type"] == "BOOKMARK"
        assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_malformed_revision(kube: Kube) -> None:
    response = kube.raw("GET", "configmaps?watch=true&resourceVersion=abc", None, "application/json")
    assert response.status >= 400


def test_delete_collection_is_told_one_by_one(kube: Kube) -> None:
    for name in ("a", "b"):
        kube.configmap(name)
    with kube.watch("configmaps", resourceVersion=kube.revision()) as events:
        kube.request("DELETE", "configmaps")
        assert {seen(event) for event in take(events, 2)} == {("DELETED", "a"), ("DELETED", "b")}


def test_finalized_object_is_modified_then_deleted(kube: Kube) -> None:
    kube.configmap("c", finalizers=["example.com/hold"])
    with kube.watch("configmaps", resourceVersion=kube.revision()) as events:
        kube.request("DELETE", "configmaps/c")
        kube.patch("configmaps/c", {"metadata": {"finalizers": None}})
        told = [seen(event) for event in take(events, 2)]
    assert told == [("MODIFIED", "c"), ("DELETED", "c")]


def test_unchanged_update_is_not_told(kube: Kube) -> None:
    created = kube.configmap("c")
    with kube.watch("configmaps", resourceVersion=kube.revision()) as events:
        kube.request("PUT", "configmaps/c", created)
        kube.patch("configmaps/c", {"data": {"key": "2"}})
        assert take(events, 1)[0]["object"]["data"] == {"key": "2"}


def test_official_watch_class(kube: Kube) -> None:
    node = unique("node")
    kube.core.create_namespaced_pod(kube.namespace, pod_body("p", node=node))
    found = []
    stream = Watch().stream(client.CoreV1Api(kube.api).list_namespaced_pod, kube.namespace, timeout_seconds=2)
    for event in stream:
        found.append((event["type"], event["object"].metadata.name, event["object"].spec.node_name))
    assert found == [("ADDED", "p", node)]
