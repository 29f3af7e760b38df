"""What a client asks before it asks for objects."""

from __future__ import annotations

import pytest
from kubernetes import client

from tests import kube_programs
from tests.contract.kube.kube import Kube


def test_a_real_server_is_held_to_it_too() -> None:
    """One skip stands for all that a real server would be asked."""
    if not kube_programs.directory():
        pytest.skip(kube_programs.ABSENCE)


def test_version(server: Kube) -> None:
    version = client.VersionApi(server.api).get_code()
    assert (version.major, version.minor) == ("1", "35")


def test_groups(server: Kube) -> None:
    assert "v1" in client.CoreApi(server.api).get_api_versions().versions
    groups = {group.name: group for group in client.ApisApi(server.api).get_api_versions().groups}
    assert groups["apps"].preferred_version.group_version == "apps/v1"
    assert "coordination.k8s.io" in groups


def test_resources_of_the_core_group(server: Kube) -> None:
    answer = server.request("GET", "/api/v1")
    assert answer.body["kind"] == "APIResourceList"
    resources = {resource["name"]: resource for resource in answer.body["resources"]}
    pods = resources["pods"]
    assert (pods["kind"], pods["namespaced"], pods["shortNames"]) == ("Pod", True, ["po"])
    assert set(pods["verbs"]) >= {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert not resources["nodes"]["namespaced"]
    assert "pods/status" in resources


def test_resources_of_a_group(server: Kube) -> None:
    answer = server.request("GET", "/apis/coordination.k8s.io/v1")
    assert answer.body["groupVersion"] == "coordination.k8s.io/v1"
    assert "leases" in {resource["name"] for resource in answer.body["resources"]}
    assert server.request("GET", "/apis/coordination.k8s.io").body["kind"] == "APIGroup"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez"])
def test_health(server: Kube, path: str) -> None:
    response = server.raw("GET", path, None, "application/json")
    assert (response.status, response.read()) == (200, b"ok")


def test_unknown_path(server: Kube) -> None:
    assert server.raw("GET", "/nothing", None, "application/json").status == 404
