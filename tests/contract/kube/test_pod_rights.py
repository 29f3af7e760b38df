"""What an agent's account may do to pods, as a real API server judges the rights and the policy of the chart.

Tokens are those of pods, bound to their nodes by the API server itself, as a kubelet gets them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # as in control/kube/service_cidrs.py: it has no types

from control.kube.connection import MERGE_PATCH
from control.kube.notes import PatchKey, PatchNote, patch_request
from control.model.ids import PodKey
from deploy.render import HERE, POD_IPS
from tests import kube_programs
from tests.contract.kube.kube import Kube
from tests.contract.kube.real import RealServer
from tests.e2e.witnesses import until

if not kube_programs.directory():
    pytest.skip(kube_programs.ABSENCE, allow_module_level=True)

PATHS = {
    "ServiceAccount": "/api/v1/namespaces/kube-system/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    ),
}
JSON = "application/json"
ANNOTATION = "k8s.aliyun.com/pod-ips"


class Cluster:
    """Two nodes, an agent's pod on each, and a workload's pod on each: web-node1, web-node2."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self.admin = Kube(server.client(), server.compact)
        for item in json.loads((HERE / "rbac.json").read_text())["items"]:
            self.do("POST", PATHS[item["kind"]], item)
        for node in ("node1", "node2"):
            self.do("POST", "/api/v1/nodes", {"metadata": {"name": node}})
            self.pod("default", f"web-{node}", node)
            self.pod("kube-system", f"terway-{node}", node, serviceAccountName="terway")
        self.agent = self.account("terway-node1")
        self.nobodys = self.account(None)

    def do(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.admin.raw(method, path, body, JSON if method == "POST" else MERGE_PATCH)
        value = json.loads(answer.read())
        assert answer.status < 300, value
        return value

    def pod(self, namespace: str, name: str, node: str, **spec: Any) -> None:
        metadata = {"name": name, "annotations": {"kept": "1"}, "labels": {"app": "web"}}
        containers = [{"name": "main", "image": "registry.example/web:1"}]
        body = {"metadata": metadata, "spec": {"nodeName": node, "containers": containers, **spec}}
        self.do("POST", f"/api/v1/namespaces/{namespace}/pods", body)

    def account(self, pod: str | None) -> Kube:
        """Requests by a token of the account, bound to a pod as a kubelet asks for it, or to none."""
        wanted: dict[str, Any] = {"expirationSeconds": 3600}
        if pod is not None:
            uid = self.do("GET", f"/api/v1/namespaces/kube-system/pods/{pod}")["metadata"]["uid"]
            wanted["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
        path = "/api/v1/namespaces/kube-system/serviceaccounts/terway/token"
        token = self.do("POST", path, {"spec": wanted})["status"]["token"]
        return Kube(self._server.client(token), self._server.compact)

    def uid(self, name: str) -> str:
        return str(self.do("GET", f"/api/v1/namespaces/default/pods/{name}")["metadata"]["uid"])

    def annotations(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.do("GET", f"/api/v1/namespaces/default/pods/{name}")["metadata"][
            "annotations"
        ]
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    real = RealServer(
        Path(kube_programs.directory()), tmp_path_factory.mktemp("rights"), authorization="RBAC"
    )
    try:
        real.start()
        yield real
    finally:
        real.stop()


@pytest.fixture(scope="module")
def cluster(server: RealServer) -> Cluster:
    """As the chart installs it without podIps."""
    made = Cluster(server)
    until(lambda: status(made.agent, "GET", "web-node1"), lambda code: code == 200)
    return made


@pytest.fixture(scope="module")
def annotating(cluster: Cluster) -> Cluster:
    """With podIps: the policy first takes effect some time after it was made."""
    probes = itertools.count()  # a patch that changes nothing is no update
    for item in yaml.safe_load_all(POD_IPS.read_text()):
        cluster.do("POST", PATHS[item["kind"]], item)
    until(
        lambda: patch(cluster.agent, "web-node1", {"metadata": {"annotations": {ANNOTATION: None}}}),
        lambda code: code == 200,
    )
    until(
        lambda: patch(cluster.agent, "web-node1", {"metadata": {"labels": {"probe": str(next(probes))}}}),
        lambda code: code == 403,
    )
    cluster.do(
        "PATCH", "/api/v1/namespaces/default/pods/web-node1", {"metadata": {"labels": {"probe": None}}}
    )
    return cluster


def status(by: Kube, method: str, name: str, body: Any = None, *, below: str = "") -> int:
    path = f"/api/v1/namespaces/default/pods/{name}{below}"
    answer = by.raw(method, path, body, MERGE_PATCH)
    answer.read()
    return int(answer.status)


def patch(by: Kube, name: str, body: Any, *, below: str = "") -> int:
    return status(by, "PATCH", name, body, below=below)


WRITES = {
    "annotation": {"metadata": {"annotations": {ANNOTATION: "10.0.0.1"}}},
    "another annotation": {"metadata": {"annotations": {"x": "y"}}},
    "an annotation away": {"metadata": {"annotations": {"kept": None}}},
    "an annotation changed": {"metadata": {"annotations": {"kept": "2"}}},
    "along with it": {"metadata": {"annotations": {ANNOTATION: "10.0.0.1", "x": "y"}}},
    "a value that is no address": {"metadata": {"annotations": {ANNOTATION: "<script>"}}},
    "label": {"metadata": {"labels": {"app": "other"}}},
    "label away": {"metadata": {"labels": None}},
    "finalizer": {"metadata": {"finalizers": ["example.com/stay"]}},
    "owner": {
        "metadata": {
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "1"}]
        }
    },
    "image": {"spec": {"containers": [{"name": "main", "image": "registry.example/evil:1"}]}},
    "deadline": {"spec": {"activeDeadlineSeconds": 1}},
}


def test_by_default_no_pod_can_be_written_to(cluster: Cluster) -> None:
    for name, body in WRITES.items():
        assert patch(cluster.agent, "web-node1", body) == 403, name
    for below in ("/status", "/ephemeralcontainers", "/resize"):
        assert patch(cluster.agent, "web-node1", {"status": {"podIP": "10.9.9.9"}}, below=below) == 403
    assert status(cluster.agent, "DELETE", "web-node1") == 403
    assert status(cluster.agent, "GET", "web-node1") == 200


def test_the_annotation_of_a_pod_of_the_agents_node(annotating: Cluster) -> None:
    """By the request that the agent sends, twice, and away again."""
    for value in ("10.0.16.5,2001:db8::5", "10.0.16.6"):
        key = PatchKey(PodKey("default", "web-node1"), annotating.uid("web-node1"))
        request = patch_request(PatchNote(key, {ANNOTATION: value}))
        answer = annotating.agent.raw(request.method, request.path, request.body, request.content_type)
        assert answer.status == 200, answer.read()
        assert annotating.annotations("web-node1") == {"kept": "1", ANNOTATION: value}
    assert patch(annotating.agent, "web-node1", {"metadata": {"annotations": {ANNOTATION: None}}}) == 200
    assert annotating.annotations("web-node1") == {"kept": "1"}


@pytest.mark.parametrize("name", [name for name in WRITES if name != "annotation"])
def test_nothing_else_of_it(annotating: Cluster, name: str) -> None:
    before = annotating.do("GET", "/api/v1/namespaces/default/pods/web-node1")
    assert patch(annotating.agent, "web-node1", WRITES[name]) == 403
    assert annotating.do("GET", "/api/v1/namespaces/default/pods/web-node1") == before


@pytest.mark.parametrize("below", ["/status", "/ephemeralcontainers", "/resize"])
def test_no_subresource(annotating: Cluster, below: str) -> None:
    assert patch(annotating.agent, "web-node1", {"status": {"podIP": "10.9.9.9"}}, below=below) == 403


def test_no_pod_of_another_node(annotating: Cluster) -> None:
    assert patch(annotating.agent, "web-node2", WRITES["annotation"]) == 403
    assert patch(annotating.account("terway-node2"), "web-node2", WRITES["annotation"]) == 200


def test_no_token_that_is_of_no_node(annotating: Cluster) -> None:
    """A long-lived one of a Secret, or one that was asked for without a pod, says no node."""
    assert patch(annotating.nobodys, "web-node1", WRITES["annotation"]) == 403


def test_others_are_not_held_back(annotating: Cluster) -> None:
    body = {"metadata": {"labels": {"by": "admin"}}}
    assert patch(annotating.admin, "web-node2", body) == 200


def test_what_the_manifest_grants_is_what_is_asked_for() -> None:
    items = {item["kind"]: item for item in yaml.safe_load_all(POD_IPS.read_text())}
    (rule,) = items["ClusterRole"]["rules"]
    assert (rule["resources"], rule["verbs"]) == (["pods"], ["patch"])
