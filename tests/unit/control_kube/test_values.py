"""Pure parts: reading a pod, the cache's rule for late answers, pauses, configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control.kube.backoff import Backoff
from control.kube.cache import PodCache
from control.kube.connection import Connection, KubernetesConfig, Refused, Request
from control.kube.pods import parse_pod, revision_of
from control.model.errors import ConfigError
from control.model.pod import Kubernetes, Pod
from tests.unit.control_kube.cluster import NODE, Cluster, key


def test_pod_keeps_what_the_agent_reads() -> None:
    value = {
        "metadata": {
            "namespace": "default",
            "name": "web-0",
            "uid": "u",
            "labels": {"app": "web"},
            "annotations": {
                "k8s.aliyun.com/pod-eni": "true",
                "kubernetes.io/ingress-bandwidth": "10M",
                "kubernetes.io/egress-bandwidth": "5M",
                "kubernetes.io/psp": "x",
                "kubectl.kubernetes.io/last-applied-configuration": "{...}",
            },
            "ownerReferences": [{"kind": "Other"}, {"kind": "StatefulSet", "controller": True}],
        },
        "spec": {"nodeName": NODE, "hostNetwork": True},
        "status": {"phase": "Failed"},
    }
    pod = parse_pod(value)
    assert (pod.uid, pod.node, pod.host_network, pod.owner_kind) == ("u", NODE, True, "statefulset")
    assert pod.labels == {"app": "web"}
    assert pod.sandbox_exited
    assert pod.annotations == {
        "k8s.aliyun.com/pod-eni": "true",
        "kubernetes.io/ingress-bandwidth": "10M",
        "kubernetes.io/egress-bandwidth": "5M",
    }


def test_pod_with_nothing_set() -> None:
    pod = parse_pod({"metadata": {"namespace": "default", "name": "p", "uid": "u", "ownerReferences": None}})
    assert pod == Pod(key("p"), "u", "")


@pytest.mark.parametrize(("phase", "exited"), [("Pending", False), ("Running", False), ("Succeeded", True)])
def test_sandbox_of_a_phase(phase: str, exited: bool) -> None:
    metadata = {"namespace": "default", "name": "p", "uid": "u"}
    assert parse_pod({"metadata": metadata, "status": {"phase": phase}}).sandbox_exited is exited


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", 0), ("abc", 0), (None, 0)])
def test_revisions(text: str | None, number: int) -> None:
    assert revision_of({"metadata": {"resourceVersion": text}}) == number


def test_cache_takes_no_answer_that_the_watch_has_passed() -> None:
    cache = PodCache()
    old, new = Pod(key("p"), "old", NODE), Pod(key("p"), "new", NODE)
    cache.offer(new, 9)
    assert not cache.pods, "before the first list nothing would ever remove it"
    cache.replace((), 10)
    cache.put(old, 12)
    cache.remove(old, 15)
    cache.offer(old, 12)
    assert not cache.pods
    cache.offer(new, 16)
    assert cache.pods == {key("p"): new}
    assert cache.position == 15, "what a GET has seen the watch has not"


def test_cache_position_never_goes_back() -> None:
    cache = PodCache()
    cache.replace((), 10)
    cache.advance(20)
    cache.put(Pod(key("p"), "u", NODE), 15)
    assert cache.position == 20


def test_every_change_of_the_pods_is_told() -> None:
    cache = PodCache()
    told: list[int] = []
    cache.on_change = lambda: told.append(len(cache.pods))
    first, second = Pod(key("a"), "u", NODE), Pod(key("b"), "u", NODE)
    cache.replace((first,), 10)
    cache.put(second, 11)
    cache.remove(first, 12)
    cache.advance(13)
    cache.offer(first, 12)
    cache.offer(first, 14)
    assert told == [1, 2, 1, 2]


def test_pauses_grow_to_a_cap_and_begin_anew() -> None:
    backoff = Backoff(1.0, 4.0)
    pauses = [backoff.pause() for _ in range(5)]
    for pause, whole in zip(pauses, (1.0, 2.0, 4.0, 4.0, 4.0), strict=True):
        assert whole / 2 <= pause <= whole
    backoff.reset()
    assert backoff.pause() <= 1.0


def test_adapter_is_the_port(cluster: Cluster) -> None:
    port: Kubernetes = cluster.adapter()
    assert not port.synced()


def test_absent_kubeconfig(tmp_path: Path) -> None:
    path = str(tmp_path / "absent")
    with pytest.raises(ConfigError, match=path):
        Connection(KubernetesConfig(NODE, kubeconfig=path))


def test_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="service account"):
        Connection(KubernetesConfig(NODE))


def test_url_without_scheme() -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1:6443"):
        Connection(KubernetesConfig(NODE, url="10.0.0.1:6443"))


def test_kubeconfig(cluster: Cluster, tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": f"http://127.0.0.1:{cluster.port}"}}],
        "users": [{"name": "lab", "user": {"token": "t"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    connection = Connection(KubernetesConfig(NODE, kubeconfig=str(path)))
    assert connection.call(Request("GET", "/version"), timeout=5)["major"] == "1"
    connection.close()


def test_refusal_says_what_was_refused(cluster: Cluster) -> None:
    connection = Connection(cluster.config())
    with pytest.raises(Refused) as caught:
        connection.call(Request("GET", "/api/v1/nodes/absent"), timeout=5)
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert 'nodes "absent" not found' in str(caught.value)
    assert "GET /api/v1/nodes/absent" in str(caught.value)
    connection.close()
