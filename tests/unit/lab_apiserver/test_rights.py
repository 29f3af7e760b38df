"""deploy/rbac.json grants what the agent asks of the API server, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # as in control/kube/service_cidrs.py: it has no types

from control.model.errors import PodNotFound
from control.model.pod import EventType
from deploy.render import POD_IPS
from lab.apiserver.real import RIGHTS
from tests.unit.control_kube.cluster import NODE, Cluster, eventually, key

_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


def objects() -> dict[str, Any]:
    return {item["kind"]: item for item in json.loads(RIGHTS.read_text())["items"]}


def right(method: str, url: str) -> tuple[str, str]:
    """The verb and the resource, with its group if it has one, that RBAC judges a request by."""
    path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
    place, *parts = path.strip("/").split("/")
    group = "" if place == "api" else f".{parts.pop(0)}"
    del parts[0]  # the version
    resource, *name = parts[2:] if parts[0] == "namespaces" else parts
    if method != "GET":
        return _VERBS[method], resource + group
    return ("watch" if "watch" in query else "get" if name else "list"), resource + group


def granted() -> set[tuple[str, str]]:
    return {
        (verb, f"{resource}.{group}" if group else resource)
        for rule in objects()["ClusterRole"]["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }


def test_rights_are_what_the_agent_does(cluster: Cluster) -> None:
    adapter = cluster.synced()
    uid = cluster.create("p")
    pod = asyncio.run(adapter.pod(key("p"), uid))
    with pytest.raises(PodNotFound):
        asyncio.run(adapter.pod(key("absent"), None))
    for target in (pod, None):
        for expected in (1, 2):
            adapter.event(target, EventType.NORMAL, "Reason", "message")
            eventually(
                lambda count=expected: count in [e["count"] for e in cluster.events()],  # type: ignore[misc]  # a default
                "the event is there, then counted up",
            )
    assert asyncio.run(adapter.exists(key("p"), uid))
    adapter.on_services(lambda: None)
    eventually(lambda: cluster.watches("services") > 0, "Services are watched")

    assert {right(method, url) for method, url in cluster.server.requests} == granted()
    assert pod.node == NODE
    assert not {verb for verb, resource in granted() if resource.startswith("pods")} - {
        "get",
        "list",
        "watch",
    }


def test_the_annotation_takes_the_right_of_its_own_manifest_and_one_request(cluster: Cluster) -> None:
    adapter = cluster.synced()
    pod = asyncio.run(adapter.pod(key("p"), cluster.create("p")))
    for value in ("b", "c"):
        adapter.annotate(pod, {"a": value})
    eventually(lambda: cluster.annotations("p").get("a") == "c", "the annotation is there")
    written = [right(method, url) for method, url in cluster.server.requests if method != "GET"]
    roles = [item for item in yaml.safe_load_all(POD_IPS.read_text()) if item["kind"] == "ClusterRole"]
    assert written == [
        (verb, what)
        for role in roles
        for rule in role["rules"]
        for verb in rule["verbs"]
        for what in rule["resources"]
    ]


def test_of_configmaps_one_is_readable(cluster: Cluster) -> None:
    adapter = cluster.adapter()
    adapter.on_services(lambda: None)
    eventually(lambda: adapter.service_addresses() is not None, "the Services are listed")
    read = {path.rsplit("/", 1)[1] for _, path in cluster.server.requests if "configmaps/" in path}
    rules = [rule for rule in objects()["ClusterRole"]["rules"] if "configmaps" in rule["resources"]]
    assert [set(rule["resourceNames"]) for rule in rules] == [read]


def test_role_account_and_binding_belong_together() -> None:
    found = objects()
    account, role, binding = found["ServiceAccount"], found["ClusterRole"], found["ClusterRoleBinding"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account["metadata"]}]
