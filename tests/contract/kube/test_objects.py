"""Create, get and update: what the server adds to an object, and what it refuses."""

from __future__ import annotations

import pytest
from kubernetes import client

from tests.contract.kube.kube import Kube, pod_body, unique


def test_create_fills_system_metadata(kube: Kube) -> None:
    created = kube.configmap("one", labels={"a": "b"}, uid="mine", generation=7)
    metadata = created["metadata"]
    assert (created["kind"], created["apiVersion"]) == ("ConfigMap", "v1")
    assert metadata["namespace"] == kube.namespace
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 0
    assert kube.request("GET", "configmaps/one").body == created


def test_official_client_reads_what_it_created(kube: Kube) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="typed"), data={"a": "ü"})
    created = kube.core.create_namespaced_config_map(kube.namespace, body)
    read = kube.core.read_namespaced_config_map("typed", kube.namespace)
    assert read.data == {"a": "ü"}
    assert read.metadata.uid == created.metadata.uid


def test_generate_name_makes_distinct_names(kube: Kube) -> None:
    names = {
        kube.request("POST", "configmaps", {"metadata": {"generateName": "gen-"}}).body["metadata"]["name"]
        for _ in range(3)
    }
    assert len(names) == 3
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


def test_pod_status_is_not_taken_from_create(kube: Kube) -> None:
    answer = kube.request("POST", "pods", pod_body("p") | {"status": {"phase": "Running"}})
    assert answer.body["status"]["phase"] == "Pending"
    assert answer.body["metadata"]["generation"] == 1


def test_node_status_is_taken_from_create(kube: Kube) -> None:
    name = unique("node")
    node = {"metadata": {"name": name}, "status": {"capacity": {"aliyun/eni": "3"}}}
    answer = kube.request("POST", "/api/v1/nodes", node)
    try:
        assert answer.body["status"]["capacity"] == {"aliyun/eni": "3"}
    finally:
        kube.request("DELETE", f"/api/v1/nodes/{name}")


def test_already_exists(kube: Kube) -> None:
    kube.configmap("twice")
    answer = kube.request("POST", "configmaps", {"metadata": {"name": "twice"}})
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "twice" already exists',
        "reason": "AlreadyExists",
        "details": {"name": "twice", "kind": "configmaps"},
        "code": 409,
    }


def test_not_found(kube: Kube) -> None:
    answer = kube.request("GET", "pods/absent")
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "absent" not found',
        "reason": "NotFound",
        "details": {"name": "absent", "kind": "pods"},
        "code": 404,
    }


def test_not_found_names_the_group(kube: Kube) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases/absent"
    answer = kube.request("GET", path)
    assert answer.body["message"] == 'leases.coordination.k8s.io "absent" not found'
    assert answer.body["details"] == {"name": "absent", "group": "coordination.k8s.io", "kind": "leases"}


def test_create_in_absent_namespace(kube: Kube) -> None:
    answer = kube.request("POST", "/api/v1/namespaces/absent/configmaps", {"metadata": {"name": "a"}})
    assert answer.summary == (404, "NotFound")
    assert answer.body["message"] == 'namespaces "absent" not found'


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_absent_namespace_is_empty_to_others(kube: Kube, method: str) -> None:
    answer = kube.request(method, "/api/v1/namespaces/absent/configmaps")
    assert (answer.status, answer.body["items"]) == (200, [])


def test_nameless_object_is_invalid(kube: Kube) -> None:
    answer = kube.request("POST", "configmaps", {"metadata": {}})
    assert answer.summary == (422, "Invalid")
    assert answer.body["details"]["causes"][0]["field"] == "metadata.name"
    assert answer.body["details"]["causes"][0]["reason"] == "FieldValueRequired"


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "a/b"])
def test_malformed_name_is_invalid(kube: Kube, name: str) -> None:
    answer = kube.request("POST", "configmaps", {"metadata": {"name": name}})
    assert answer.summary == (422, "Invalid")


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"name": "a", "namespace": "other"}},
        {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}},
        {"kind": "ConfigMap", "apiVersion": "v2", "metadata": {"name": "a"}},
        ["not an object"],
    ],
)
def test_bodies_that_do_not_fit_the_url(kube: Kube, body: object) -> None:
    assert kube.request("POST", "configmaps", body).summary == (400, "BadRequest")


def test_create_with_resource_version_is_refused(kube: Kube) -> None:
    answer = kube.request("POST", "configmaps", {"metadata": {"name": "a", "resourceVersion": "5"}})
    assert "resourceVersion should not be set" in answer.body["message"]
    assert answer.status == 500


def test_update_of_an_old_version_conflicts(kube: Kube) -> None:
    first = kube.configmap("c")
    second = kube.request("PUT", "configmaps/c", {**first, "data": {"key": "2"}})
    assert second.status == 200
    assert int(second.body["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    answer = kube.request("PUT", "configmaps/c", {**first, "data": {"key": "3"}})
    assert answer.summary == (409, "Conflict")
    assert answer.body["details"] == {"name": "c", "kind": "configmaps"}
    assert answer.body["message"] == (
        'Operation cannot be fulfilled on configmaps "c": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert kube.request("GET", "configmaps/c").body["data"] == {"key": "2"}


def test_update_without_version_is_unconditional(kube: Kube) -> None:
    created = kube.configmap("c")
    answer = kube.request("PUT", "configmaps/c", {"metadata": {"name": "c"}, "data": {"key": "2"}})
    assert answer.status == 200
    for name in ("uid", "creationTimestamp"):
        assert answer.body["metadata"][name] == created["metadata"][name]


def test_update_that_changes_nothing_keeps_the_version(kube: Kube) -> None:
    created = kube.configmap("c")
    answer = kube.request("PUT", "configmaps/c", created)
    assert answer.body["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


def test_update_of_another_uid_conflicts(kube: Kube) -> None:
    kube.configmap("c")
    answer = kube.request("PUT", "configmaps/c", {"metadata": {"name": "c", "uid": "other"}})
    assert answer.summary == (409, "Conflict")


def test_update_under_another_name(kube: Kube) -> None:
    kube.configmap("c")
    answer = kube.request("PUT", "configmaps/c", {"metadata": {"name": "d"}})
    assert answer.summary == (400, "BadRequest")


def test_update_of_the_absent(kube: Kube) -> None:
    answer = kube.request("PUT", "configmaps/absent", {"metadata": {"name": "absent"}})
    assert answer.summary == (404, "NotFound")


def test_update_leaves_status_alone_and_status_the_rest(kube: Kube) -> None:
    pod = kube.pod("p")
    status = {**pod, "spec": {}, "status": {"phase": "Running", "podIP": "10.0.0.9"}}
    answer = kube.request("PUT", "pods/p/status", status)
    assert answer.status == 200
    assert answer.body["status"]["podIP"] == "10.0.0.9"
    assert answer.body["spec"] == pod["spec"]
    labelled = {**pod, "metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"phase": "Failed"}}
    answer = kube.request("PUT", "pods/p", labelled)
    assert answer.body["status"]["phase"] == "Running"
    assert answer.body["metadata"]["labels"] == {"a": "b"}
    assert kube.request("GET", "pods/p/status").body == answer.body


def test_binding_gives_a_pod_its_node_once(kube: Kube) -> None:
    kube.pod("p")
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    answer = kube.request("POST", "pods/p/binding", binding)
    assert (answer.status, answer.body["kind"], answer.body["status"]) == (201, "Status", "Success")
    assert kube.request("GET", "pods/p").body["spec"]["nodeName"] == "n1"
    assert kube.request("POST", "pods/p/binding", binding).summary == (409, "Conflict")


def test_events_are_about_objects_of_their_namespace(kube: Kube) -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "other"}}
    assert kube.request("POST", "events", event).summary == (422, "Invalid")


def test_not_json(kube: Kube) -> None:
    assert kube.request("POST", "configmaps").status == 400


def test_body_of_another_kind_than_json(kube: Kube) -> None:
    answer = kube.request("POST", "configmaps", "metadata: {name: a}", media_type="text/plain")
    assert answer.summary == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    "path", ["/api/v1/nothings", "/apis/nothing.example.com/v1/things", "/api/v1/namespaces/default/nodes"]
)
def test_unknown_resource(kube: Kube, path: str) -> None:
    response = kube.raw("GET", path, None, "application/json")
    assert response.status == 404


def test_method_that_a_resource_lacks(kube: Kube) -> None:
    kube.configmap("c")
    assert kube.request("POST", "configmaps/c", {}).summary == (405, "MethodNotAllowed")
