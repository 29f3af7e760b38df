"""A lab whose Kubernetes API is a real etcd and kube-apiserver; its agent has the rights a cluster gives it.

One skip stands for all of it where there are no such programs (``tests.kube_programs``).
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from lab.apiserver import audit
from lab.apiserver.files import KubeDir
from lab.client import Lab
from lab.cni_call import CniError
from lab.kube_client import KubeClient, KubeError
from lab.messages import LabError
from lab.nodes.node import LabNode
from lab.spec import LabSpec, NodeSpec
from lab.statedir import LabDir
from tests import kube_programs
from tests.netns.lab.conftest import fresh_name
from tests.netns.lab.machine import traces
from tests.netns.lab.waiting import wait_for

if not kube_programs.directory():
    pytest.skip(kube_programs.ABSENCE, allow_module_level=True)

ACCOUNT = "system:serviceaccount:kube-system:terway"
POD_IPS = "k8s.aliyun.com/pod-ips"
_SLOW = 60.0


def spec(*nodes: str) -> LabSpec:
    return LabSpec(nodes=tuple(NodeSpec(n) for n in nodes), kube_bin=kube_programs.directory())


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What was said while the module's lab came up."""
    return []


@pytest.fixture(scope="module")
def lab(told: list[str]) -> Iterator[Lab]:
    with Lab.start(spec("node1"), name=fresh_name(), progress=told.append) as running:
        yield running


@pytest.fixture(scope="module")
def node(lab: Lab) -> LabNode:
    """With its agent, for all tests of the module."""
    node = lab.node("node1")
    node.install_cni()
    node.write_config()
    node.start_agent()
    return node


def annotated(lab: Lab, name: str) -> dict[str, str]:
    found: dict[str, str] = lab.kubernetes.pod("default", name)["metadata"].get("annotations", {})
    return found


def reasons(lab: Lab, name: str) -> list[str]:
    """Of the events about a pod."""
    events = lab.kubernetes.events("default")
    return [e["reason"] for e in events if e["involvedObject"]["name"] == name]


def events_uids(lab: Lab, name: str) -> set[str]:
    """Uids of the pods of a name that events are about."""
    events = lab.kubernetes.events("default")
    return {e["involvedObject"]["uid"] for e in events if e["involvedObject"]["name"] == name}


def records(lab: Lab) -> list[dict[str, Any]]:
    return list(audit.records(KubeDir(lab.directory.kubernetes).audit_log))


def answers(lab: Lab, after: int) -> list[tuple[str, str, int]]:
    """Verb, resource and status of what the agent asked, from audit record ``after`` on."""
    return [
        (r["verb"], r["objectRef"]["resource"], r["responseStatus"]["code"])
        for r in records(lab)[after:]
        if r["user"].get("username") == ACCOUNT and "responseStatus" in r
    ]


def test_it_is_a_real_one_and_says_so(lab: Lab, told: list[str]) -> None:
    version = lab.kubernetes.request("GET", "/version")["gitVersion"]
    assert lab.status()["kubernetes"] == {
        "server": f"kube-apiserver {version}",
        "url": "https://100.100.0.20:6443",
        "kubeconfig": str(lab.directory.root / "kubernetes" / "admin.kubeconfig"),
    }
    assert told[0] == "starting etcd and kube-apiserver"
    assert told[-1].startswith(f"kube-apiserver {version} is ready after ")
    groups = lab.kubernetes.request("GET", "/apis")["groups"]
    assert "flowcontrol.apiserver.k8s.io" in [g["name"] for g in groups], "which the small server lacks"


def test_what_it_keeps_is_private(lab: Lab) -> None:
    root = lab.directory.kubernetes
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    open_files = [p.name for p in root.iterdir() if p.is_file() and p.stat().st_mode & 0o077]
    assert open_files == []


def test_nodes_are_objects_for_as_long_as_they_are(lab: Lab) -> None:
    def names() -> list[str]:
        return [n["metadata"]["name"] for n in lab.kubernetes.request("GET", "/api/v1/nodes")["items"]]

    assert names() == ["node1"]
    for _ in range(2):
        lab.add_node(NodeSpec("later"))
        assert names() == ["later", "node1"]
        lab.remove_node("later")
    assert names() == ["node1"]


def test_configuration_is_replaced(lab: Lab) -> None:
    path = "/api/v1/namespaces/brand-new/configmaps/c"
    for text in ("1", "2"):
        lab.kubernetes.put_config_map("brand-new", "c", {"key": text})
        assert lab.kubernetes.request("GET", path)["data"] == {"key": text}


def test_a_pod_from_its_object_to_its_end(lab: Lab, node: LabNode) -> None:
    pod = lab.add_pod(node.name, "default", "web")
    assert pod.ipv4 in lab.spec.vswitches[1].cidr
    wait_for("the event arrives", lambda: "AllocIPSucceed" in reasons(lab, "web"))
    assert POD_IPS not in annotated(lab, "web"), "its object is not the agent's to write to"
    lab.delete_pod(pod)
    with pytest.raises(KubeError) as gone:
        lab.kubernetes.pod("default", "web")
    assert gone.value.status == 404
    assert node.sandboxes() == ()


def test_a_pod_of_a_new_namespace(lab: Lab, node: LabNode) -> None:
    pod = lab.add_pod(node.name, "shop", "web")
    wait_for("the event arrives", lambda: len(lab.kubernetes.events("shop")) > 0)
    lab.delete_pod(pod)


def test_an_unknown_pod(lab: Lab, node: LabNode) -> None:
    with pytest.raises(CniError, match="there is no pod default/ghost in Kubernetes"):
        lab.add_pod(node.name, "default", "ghost", create_object=False)
    assert node.sandboxes() == ()


def test_a_pod_that_was_made_anew_is_served_as_itself(lab: Lab, node: LabNode) -> None:
    first = lab.add_pod(node.name, "default", "anew")
    lab.delete_pod(first)
    second = lab.add_pod(node.name, "default", "anew")
    assert second.uid != first.uid
    wait_for("the event arrives", lambda: second.uid in events_uids(lab, "anew"))
    lab.delete_pod(second)


def test_killed_and_started_again(lab: Lab, node: LabNode) -> None:
    """Meanwhile the agent serves whom its cache knows; afterwards its watch goes on."""
    known = lab.add_pod(node.name, "default", "known")
    wait_for("all mail is out", lambda: "AllocIPSucceed" in reasons(lab, "known"))
    lab.stop_kubernetes()
    before = len(records(lab))
    try:
        with pytest.raises(KubeError):
            lab.kubernetes.pod("default", "known")
        known.stop()
        again = known.recreate()
        assert again.ipv4 == known.ipv4
        with pytest.raises(CniError, match="failed:") as unknown:
            lab.add_pod(node.name, "default", "unknown", create_object=False)
        assert unknown.value.code == 11
    finally:
        lab.start_kubernetes()
    assert reasons(lab, "known"), "its objects are still there"
    # The server answers before it has read its roles and refuses everybody until then: the agent tries again.
    wait_for("the watch stands again", lambda: ("watch", "pods", 200) in answers(lab, before), timeout=_SLOW)
    late = lab.add_pod(node.name, "default", "late")
    wait_for("the event arrives", lambda: "AllocIPSucceed" in reasons(lab, "late"), timeout=_SLOW)
    for pod in (again, late):
        lab.delete_pod(pod)


def test_starting_twice_is_refused_and_stopping_twice_is_not(lab: Lab) -> None:
    with pytest.raises(LabError, match="already runs"):
        lab.start_kubernetes()
    lab.stop_kubernetes()
    lab.stop_kubernetes()
    lab.start_kubernetes()
    assert lab.kubernetes.request("GET", "/api/v1/nodes")["kind"] == "NodeList"


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("watch", "pods", True),
        ("patch", "pods", False),
        ("create", "events", True),
        ("delete", "pods", False),
        ("create", "pods", False),
        ("list", "secrets", False),
        ("list", "configmaps", False),
        ("patch", "nodes", False),
    ],
)
def test_what_the_agents_account_may(lab: Lab, verb: str, resource: str, allowed: bool) -> None:
    where = {"verb": verb, "resource": resource, "namespace": "default"}
    review = {"spec": {"user": ACCOUNT, "resourceAttributes": where}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert lab.kubernetes.request("POST", path, review)["status"]["allowed"] is allowed


def test_a_stranger_may_nothing(lab: Lab) -> None:
    authority = KubeDir(lab.directory.kubernetes).certificate("ca")
    stranger = KubeClient(lab.netns_fd("cloud"), ssl.create_default_context(cafile=str(authority)))
    try:
        with pytest.raises(KubeError) as refused:
            stranger.request("GET", "/api/v1/pods")
    finally:
        stranger.close()
    assert refused.value.status == 403


def test_the_agent_is_refused_nothing(lab: Lab, node: LabNode) -> None:
    """From its start, with a server that is ready: every kind of request that it makes."""
    node.stop_agent()
    before = len(records(lab))
    node.start_agent()
    pod = lab.add_pod(node.name, "default", "allowed")
    for _ in range(3):
        pod.stop()
        pod = pod.recreate()
    with pytest.raises(CniError):
        lab.add_pod(node.name, "default", "ghost", create_object=False)
    kinds = {
        ("list", "pods"),
        ("watch", "pods"),
        ("get", "pods"),
        ("create", "events"),
    }
    wait_for("one of each kind", lambda: {(verb, what) for verb, what, _ in answers(lab, before)} >= kinds)
    assert {code for _, _, code in answers(lab, before)} <= {200, 201, 404}
    lab.delete_pod(pod)


def test_down_leaves_nothing(name: str) -> None:
    with Lab.start(spec("node1"), name=name):
        found = traces(name)
        assert {"etcd", "kube-apiserver"} <= {_program(pid) for pid in found.processes}
    assert found.left() == []


def test_it_dies_with_the_lab(name: str) -> None:
    Lab.start(spec("node1"), name=name, keep=True)
    found = traces(name)
    assert {"etcd", "kube-apiserver"} <= {_program(pid) for pid in found.processes}
    record = json.loads(LabDir.of(name).leftovers.read_text())
    os.kill(int(list(record["processes"])[1]), signal.SIGKILL)
    wait_for("all follow the warden", lambda: found.running() == [])


def _program(pid: int) -> str:
    return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
