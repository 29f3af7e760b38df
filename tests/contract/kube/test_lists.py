"""Lists: kinds, order, pages, selectors, revisions; and deletion by list."""

from __future__ import annotations

import urllib.parse
from typing import Any

import pytest

from tests.contract.kube.kube import Answer, Json, Kube, pod_body, unique


def list_of(kube: Kube, path: str, **query: str) -> Answer:
    return kube.request("GET", f"{path}?{urllib.parse.urlencode(query)}")


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    return [item["metadata"]["name"] for item in answer.body["items"]]


def test_list_has_kind_and_revision(kube: Kube) -> None:
    for name in ("b", "a", "c"):
        kube.configmap(name)
    answer = list_of(kube, "configmaps")
    assert (answer.body["kind"], answer.body["apiVersion"]) == ("ConfigMapList", "v1")
    assert int(answer.body["metadata"]["resourceVersion"]) > 0
    assert names(answer) == ["a", "b", "c"]
    assert not {"kind", "apiVersion"} & set(answer.body["items"][0])


def test_empty_list(kube: Kube) -> None:
    answer = list_of(kube, "pods")
    assert (answer.body["kind"], answer.body["items"]) == ("PodList", [])


def test_list_over_all_namespaces(kube: Kube) -> None:
    kube.configmap("mine")
    answer = list_of(kube, "/api/v1/configmaps")
    places = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in answer.body["items"]}
    assert (kube.namespace, "mine") in places


def test_pages_show_one_moment(kube: Kube) -> None:
    for name in "abcde":
        kube.configmap(name)
    first = list_of(kube, "configmaps", limit="2")
    assert names(first) == ["a", "b"]
    assert first.body["metadata"]["remainingItemCount"] == 3
    kube.configmap("bb")
    kube.request("DELETE", "configmaps/d")
    kube.patch("configmaps/c", {"data": {"key": "later"}})
    token = first.body["metadata"]["continue"]
    second = list_of(kube, "configmaps", **{"limit": "2", "continue": token})
    assert names(second) == ["c", "d"]
    assert second.body["items"][0]["data"] == {"key": "value"}
    assert second.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]
    last = list_of(kube, "configmaps", **{"limit": "2", "continue": second.body["metadata"]["continue"]})
    assert names(last) == ["e"]
    assert not last.body["metadata"].get("continue")
    assert names(list_of(kube, "configmaps")) == ["a", "b", "bb", "c", "e"]


def test_page_after_compaction_is_gone(kube: Kube) -> None:
    for name in "abc":
        kube.configmap(name)
    token = list_of(kube, "configmaps", limit="1").body["metadata"]["continue"]
    kube.configmap("d")
    kube.compact()
    answer = list_of(kube, "configmaps", **{"limit": "1", "continue": token})
    assert answer.summary == (410, "Expired")


def test_malformed_page_token(kube: Kube) -> None:
    assert list_of(kube, "configmaps", **{"continue": "nonsense"}).summary == (400, "BadRequest")


def test_list_at_a_revision(kube: Kube) -> None:
    kube.configmap("a")
    then = kube.revision()
    kube.configmap("b")
    exact = list_of(kube, "configmaps", resourceVersion=then, resourceVersionMatch="Exact")
    assert names(exact) == ["a"]
    assert exact.body["metadata"]["resourceVersion"] == then
    assert names(list_of(kube, "configmaps", resourceVersion=kube.revision())) == ["a", "b"]
    assert list_of(kube, "configmaps", resourceVersion="0").status == 200


def test_list_at_a_revision_to_come(kube: Kube) -> None:
    future = str(int(kube.revision()) + 100_000)
    answer = list_of(kube, "configmaps", resourceVersion=future)
    assert answer.summary == (504, "Timeout")
    assert "Too large resource version" in answer.body["message"]
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def make_pods(kube: Kube) -> tuple[str, str]:
    """Pods a (n1, x=1 y=1), b (n1, x=2), c (n2, no labels); returns the two node names."""
    n1, n2 = unique("n1"), unique("n2")
    pods: tuple[tuple[str, str, Json], ...] = (
        ("a", n1, {"labels": {"x": "1", "y": "1"}}),
        ("b", n1, {"labels": {"x": "2"}}),
        ("c", n2, {}),
    )
    for name, node, metadata in pods:
        answer = kube.request("POST", "pods", pod_body(name, node=node, **metadata))
        assert answer.status == 201, answer
    kube.patch("pods/b/status", {"status": {"phase": "Running"}})
    return n1, n2


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("x=1", ["a"]),
        ("x==1", ["a"]),
        ("x!=1", ["b", "c"]),
        ("x", ["a", "b"]),
        ("!x", ["c"]),
        ("x in (1, 2)", ["a", "b"]),
        ("x notin (1)", ["b", "c"]),
        ("x in (1,2),y", ["a"]),
        ("x,!y", ["b"]),
        ("", ["a", "b", "c"]),
    ],
)
def test_label_selectors(kube: Kube, selector: str, expected: list[str]) -> None:
    make_pods(kube)
    assert names(list_of(kube, "pods", labelSelector=selector)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("spec.nodeName={n1}", ["a", "b"]),
        ("spec.nodeName=={n2}", ["c"]),
        ("spec.nodeName!={n1}", ["c"]),
        ("spec.nodeName={n1},status.phase=Running", ["b"]),
        ("status.phase!=Running", ["a", "c"]),
        ("metadata.name=b", ["b"]),
        ("metadata.namespace=elsewhere", []),
        ("spec.nodeName=absent", []),
    ],
)
def test_field_selectors(kube: Kube, selector: str, expected: list[str]) -> None:
    n1, n2 = make_pods(kube)
    assert names(list_of(kube, "pods", fieldSelector=selector.format(n1=n1, n2=n2))) == expected


def test_selectors_over_all_namespaces(kube: Kube) -> None:
    n1, _ = make_pods(kube)
    assert names(list_of(kube, "/api/v1/pods", fieldSelector=f"spec.nodeName={n1}")) == ["a", "b"]


def test_selected_pages_have_no_count(kube: Kube) -> None:
    make_pods(kube)
    answer = list_of(kube, "pods", labelSelector="x", limit="1")
    assert names(answer) == ["a"]
    assert answer.body["metadata"]["continue"]
    assert "remainingItemCount" not in answer.body["metadata"]


@pytest.mark.parametrize(
    ("path", "field", "message"),
    [
        ("pods", "spec.volumes", "field label not supported: spec.volumes"),
        ("pods", "metadata.labels.x", "field label not supported: metadata.labels.x"),
        (
            "configmaps",
            "data.key",
            '"data.key" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
    ],
)
def test_unsupported_field_selector(kube: Kube, path: str, field: str, message: str) -> None:
    answer = list_of(kube, path, fieldSelector=f"{field}=x")
    assert answer.summary == (400, "BadRequest")
    assert answer.body["message"] == message


@pytest.mark.parametrize("query", [{"fieldSelector": "nonsense"}, {"labelSelector": "x in 1"}])
def test_unreadable_selector(kube: Kube, query: dict[str, str]) -> None:
    assert list_of(kube, "pods", **query).summary == (400, "BadRequest")


def test_event_field_selectors(kube: Kube) -> None:
    for name, about, kind in (("e1", "p1", "Warning"), ("e2", "p2", "Normal")):
        event: dict[str, Any] = {
            "metadata": {"name": name},
            "type": kind,
            "reason": "Tested",
            "source": {"component": "contract"},
            "involvedObject": {"kind": "Pod", "name": about, "namespace": kube.namespace, "uid": about},
        }
        assert kube.request("POST", "events", event).status == 201
    for selector in ("involvedObject.name=p1", "type=Warning", "involvedObject.uid=p1,reason=Tested"):
        assert names(list_of(kube, "events", fieldSelector=selector)) == ["e1"]
    assert names(list_of(kube, "events", fieldSelector="source=contract")) == ["e1", "e2"]


def test_delete_collection_takes_what_is_selected(kube: Kube) -> None:
    for name in ("a", "b", "c"):
        kube.configmap(name, labels={"x": name})
    query = urllib.parse.urlencode({"labelSelector": "x in (a,b)"})
    answer = kube.request("DELETE", f"configmaps?{query}")
    assert answer.status == 200
    assert answer.body["kind"] == "ConfigMapList"
    assert sorted(names(answer)) == ["a", "b"]
    assert names(list_of(kube, "configmaps")) == ["c"]
