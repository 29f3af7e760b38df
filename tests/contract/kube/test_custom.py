"""Custom resources: defined, served, deleted; and where they differ from built-in ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kubernetes import client

from tests.contract.kube.kube import Json, Kube, unique

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Widgets:
    kube: Kube
    group: str
    path: str

    def create(self, name: str, **more: object) -> Json:
        body = {"apiVersion": f"{self.group}/v1", "kind": "Widget", "metadata": {"name": name}, **more}
        answer = self.kube.request("POST", self.path, body)
        assert answer.status == 201, answer
        return answer.body


def _definition(group: str) -> Json:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"plural": "widgets", "kind": "Widget", "listKind": "WidgetList", "singular": "widget"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.fixture
def widgets(kube: Kube) -> Iterator[Widgets]:
    group = f"{unique('g')}.example.com"
    answer = kube.request("POST", _DEFINITIONS, _definition(group))
    assert answer.status == 201, answer
    made = Widgets(kube, group, f"/apis/{group}/v1/namespaces/{kube.namespace}/widgets")
    try:
        wait_for_status(kube, made.path, 200)
        yield made
    finally:
        kube.request("DELETE", f"{_DEFINITIONS}/widgets.{group}")


def wait_for_status(kube: Kube, path: str, status: int) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while (found := kube.raw("GET", path, None, "application/json")).status != status:
        assert time.monotonic() < deadline, f"{path} still answers {found.status}"
        time.sleep(0.05)


def test_definition_is_established(widgets: Widgets) -> None:
    found = widgets.kube.request("GET", f"{_DEFINITIONS}/widgets.{widgets.group}").body
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions["Established"] == "True"


def test_custom_objects_through_the_official_client(widgets: Widgets) -> None:
    custom = client.CustomObjectsApi(widgets.kube.api)
    place = (widgets.group, "v1", widgets.kube.namespace, "widgets")
    widgets.create("w", spec={"size": 1})
    assert custom.get_namespaced_custom_object(*place, "w")["spec"] == {"size": 1}
    custom.patch_namespaced_custom_object(
        *place, "w", {"spec": {"size": 2}}, _content_type="application/merge-patch+json"
    )
    listed = custom.list_namespaced_custom_object(*place)
    assert listed["kind"] == "WidgetList"
    assert [(item["kind"], item["spec"]["size"]) for item in listed["items"]] == [("Widget", 2)]


def test_status_is_a_subresource(widgets: Widgets) -> None:
    kube = widgets.kube
    created = widgets.create("w", spec={"size": 1}, status={"ready": True})
    assert "status" not in created
    assert created["metadata"]["generation"] == 1
    body = {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 9}, "status": {"ready": True}}
    patched = kube.patch(f"{widgets.path}/w/status", body).body
    assert (patched["spec"], patched["status"]) == ({"size": 1}, {"ready": True})
    assert "labels" not in patched["metadata"]
    assert patched["metadata"]["generation"] == 1
    patched = kube.patch(f"{widgets.path}/w", {"spec": {"size": 2}, "status": {"ready": False}}).body
    assert (patched["spec"], patched["status"]) == ({"size": 2}, {"ready": True})
    assert patched["metadata"]["generation"] == 2


def test_update_needs_a_version(widgets: Widgets) -> None:
    created = widgets.create("w")
    del created["metadata"]["resourceVersion"]
    answer = widgets.kube.request("PUT", f"{widgets.path}/w", created)
    assert answer.summary == (422, "Invalid")


def test_no_strategic_patch(widgets: Widgets) -> None:
    widgets.create("w")
    answer = widgets.kube.patch(f"{widgets.path}/w", {"spec": {}}, "strategic")
    assert answer.summary == (415, "UnsupportedMediaType")


def test_only_names_can_be_selected_by_field(widgets: Widgets) -> None:
    widgets.create("w", spec={"size": 1})
    kube = widgets.kube
    named = kube.request("GET", f"{widgets.path}?fieldSelector=metadata.name%3Dw")
    assert len(named.body["items"]) == 1
    other = kube.request("GET", f"{widgets.path}?fieldSelector=spec.size%3D1")
    assert other.summary == (400, "BadRequest")


def test_deletion_answers_with_a_status(widgets: Widgets) -> None:
    widgets.create("w")
    answer = widgets.kube.request("DELETE", f"{widgets.path}/w")
    assert (answer.status, answer.body["kind"], answer.body["status"]) == (200, "Status", "Success")
    assert answer.body["details"]["group"] == widgets.group


def test_definition_takes_its_objects_along(widgets: Widgets) -> None:
    widgets.create("w")
    kube = widgets.kube
    kube.request("DELETE", f"{_DEFINITIONS}/widgets.{widgets.group}")
    wait_for_status(kube, widgets.path, 404)
    wait_for_status(kube, f"/apis/{widgets.group}/v1", 404)


def test_forgotten_revision_is_an_error_event(widgets: Widgets) -> None:
    widgets.kube.compact()
    with widgets.kube.watch(widgets.path, resourceVersion="1") as events:
        told = list(events)
    assert [event["type"] for event in told] == ["ERROR"]
    status = told[0]["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert "too old resource version: 1" in status["message"]


def test_definition_must_be_named_after_its_resource(kube: Kube) -> None:
    body = _definition(f"{unique('g')}.example.com")
    body["metadata"]["name"] = "other.example.com"
    assert kube.request("POST", _DEFINITIONS, body).summary == (422, "Invalid")
