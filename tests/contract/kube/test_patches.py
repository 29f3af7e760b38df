"""The patch formats, and what a patch may not do."""

from __future__ import annotations

import pytest

from tests.contract.kube.kube import Kube


def test_merge_patch_sets_and_removes(kube: Kube) -> None:
    kube.configmap("c", annotations={"a": "1", "b": "2"})
    answer = kube.patch("configmaps/c", {"metadata": {"annotations": {"a": None, "c": "3"}}})
    assert answer.status == 200
    assert answer.body["metadata"]["annotations"] == {"b": "2", "c": "3"}
    assert answer.body["data"] == {"key": "value"}


def test_merge_patch_replaces_lists(kube: Kube) -> None:
    kube.configmap("c", finalizers=["example.com/a"])
    answer = kube.patch("configmaps/c", {"metadata": {"finalizers": ["example.com/b"]}})
    assert answer.body["metadata"]["finalizers"] == ["example.com/b"]
    assert "finalizers" not in kube.patch("configmaps/c", {"metadata": {"finalizers": None}}).body["metadata"]


def test_json_patch(kube: Kube) -> None:
    kube.configmap("c", annotations={"a/b": "1"})
    operations = [
        {"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
        {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
        {"op": "add", "path": "/metadata/labels", "value": {"x": "y"}},
        {"op": "remove", "path": "/data/key"},
    ]
    answer = kube.patch("configmaps/c", operations, "json")
    assert answer.status == 200
    assert answer.body["metadata"]["annotations"] == {"a/b": "2"}
    assert answer.body["metadata"]["labels"] == {"x": "y"}
    assert not answer.body.get("data")


def test_json_patch_whose_test_fails_changes_nothing(kube: Kube) -> None:
    created = kube.configmap("c")
    operations = [
        {"op": "replace", "path": "/data/key", "value": "2"},
        {"op": "test", "path": "/data/key", "value": "1"},
    ]
    assert kube.patch("configmaps/c", operations, "json").summary == (422, "Invalid")
    assert kube.request("GET", "configmaps/c").body == created


def test_json_patch_that_cannot_be_applied(kube: Kube) -> None:
    kube.configmap("c")
    for operation in ({"op": "remove", "path": "/data/absent"}, {"op": "nonsense", "path": "/data"}):
        assert kube.patch("configmaps/c", [operation], "json").summary == (422, "Invalid")


def test_strategic_patch_merges_lists_by_key(kube: Kube) -> None:
    kube.pod("p")
    conditions = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    assert kube.patch("pods/p/status", conditions, "strategic").status == 200
    more = {"status": {"conditions": [{"type": "Other", "status": "True"}]}}
    answer = kube.patch("pods/p/status", more, "strategic")
    assert {c["type"]: c["status"] for c in answer.body["status"]["conditions"]} == {
        "Ready": "False",
        "Other": "True",
    }
    changed = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    answer = kube.patch("pods/p/status", changed, "strategic")
    assert {c["type"]: c["status"] for c in answer.body["status"]["conditions"]}["Ready"] == "True"
    removed = {"status": {"conditions": [{"$patch": "delete", "type": "Ready"}]}}
    answer = kube.patch("pods/p/status", removed, "strategic")
    assert [c["type"] for c in answer.body["status"]["conditions"]] == ["Other"]


def test_strategic_patch_with_directives(kube: Kube) -> None:
    kube.pod("p", labels={"a": "1", "b": "2"})
    kube.patch("pods/p/status", {"status": {"conditions": [{"type": "Old", "status": "True"}]}})
    replace = {"status": {"conditions": [{"$patch": "replace"}, {"type": "New", "status": "True"}]}}
    answer = kube.patch("pods/p/status", replace, "strategic")
    assert [c["type"] for c in answer.body["status"]["conditions"]] == ["New"]
    answer = kube.patch("pods/p", {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}, "strategic")
    assert answer.body["metadata"]["labels"] == {"c": "3"}


def test_strategic_patch_changes_one_container(kube: Kube) -> None:
    pod = kube.pod("p")
    answer = kube.patch("pods/p", {"spec": {"containers": [{"name": "main", "image": "other"}]}}, "strategic")
    assert answer.status == 200
    assert answer.body["spec"]["containers"][0]["image"] == "other"
    assert answer.body["spec"]["containers"][0]["env"] == pod["spec"]["containers"][0]["env"]
    assert answer.body["metadata"]["generation"] == 2


def test_strategic_patch_removes_one_finalizer(kube: Kube) -> None:
    kube.configmap("c", finalizers=["example.com/a", "example.com/b"])
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}
    assert kube.patch("configmaps/c", patch, "strategic").body["metadata"]["finalizers"] == ["example.com/b"]
    patch = {"metadata": {"finalizers": ["example.com/c"]}}
    finalizers = kube.patch("configmaps/c", patch, "strategic").body["metadata"]["finalizers"]
    assert sorted(finalizers) == ["example.com/b", "example.com/c"]
    kube.patch("configmaps/c", {"metadata": {"finalizers": None}})


def test_official_client_patches(kube: Kube) -> None:
    kube.pod("p")
    patched = kube.core.patch_namespaced_pod("p", kube.namespace, {"metadata": {"annotations": {"a": "1"}}})
    assert patched.metadata.annotations == {"a": "1"}
    operations = [{"op": "add", "path": "/metadata/annotations/b", "value": "2"}]
    patched = kube.core.patch_namespaced_pod("p", kube.namespace, operations)
    assert patched.metadata.annotations == {"a": "1", "b": "2"}
    patched = kube.core.patch_namespaced_pod_status("p", kube.namespace, {"status": {"phase": "Running"}})
    assert patched.status.phase == "Running"


def test_patch_that_changes_nothing_keeps_the_version(kube: Kube) -> None:
    created = kube.configmap("c", annotations={"a": "1"})
    answer = kube.patch("configmaps/c", {"metadata": {"annotations": {"a": "1"}}})
    assert answer.body["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


def test_patch_of_an_old_version_conflicts(kube: Kube) -> None:
    kube.configmap("c")
    answer = kube.patch("configmaps/c", {"metadata": {"resourceVersion": "1"}, "data": {"key": "2"}})
    assert answer.summary == (409, "Conflict")


@pytest.mark.parametrize("kind", ["merge", "strategic"])
def test_patch_with_another_uid_is_invalid(kube: Kube, kind: str) -> None:
    pod = kube.pod("p")
    patch = {"metadata": {"uid": "of-an-older-pod", "annotations": {"a": "1"}}}
    answer = kube.patch("pods/p", patch, kind)
    assert answer.summary == (422, "Invalid")
    assert answer.body["details"]["causes"][0]["field"] == "metadata.uid"
    assert kube.request("GET", "pods/p").body == pod


def test_patch_with_the_right_uid(kube: Kube) -> None:
    uid = kube.configmap("c")["metadata"]["uid"]
    answer = kube.patch("configmaps/c", {"metadata": {"uid": uid, "annotations": {"a": "1"}}})
    assert answer.body["metadata"]["annotations"] == {"a": "1"}


def test_patch_of_the_absent(kube: Kube) -> None:
    assert kube.patch("configmaps/absent", {"data": {}}).summary == (404, "NotFound")


def test_unknown_patch_type(kube: Kube) -> None:
    kube.configmap("c")
    answer = kube.request("PATCH", "configmaps/c", {"data": {}}, media_type="application/json")
    assert answer.summary == (415, "UnsupportedMediaType")


def test_status_patch_does_not_change_spec(kube: Kube) -> None:
    pod = kube.pod("p")
    body = {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": "x"}, "status": {"phase": "Running"}}
    answer = kube.patch("pods/p/status", body)
    assert answer.status == 200
    assert answer.body["spec"] == pod["spec"]
    assert answer.body["status"]["phase"] == "Running"
    assert answer.body["metadata"]["generation"] == 1
