"""A cluster behind the agent's port to Kubernetes, however it is made: what the contract tests do to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Protocol

from control.kube.adapter import KubernetesAdapter
from control.kube.connection import KubernetesConfig
from control.kube.fake import FakeKubernetes
from control.model.clock import SystemClock
from control.model.ids import PodKey
from control.model.pod import Kubernetes, Pod
from tests.contract.kube.kube import Kube, pod_body, unique
from tests.contract.kube.test_services import kubeconfig

_DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Told:
    """An event, as the server has it."""

    about: str
    reason: str
    message: str
    count: int


class World(Protocol):
    """``port`` is the agent's of ``node``; what is made here is in the test's own namespace."""

    node: str

    @property
    def port(self) -> Kubernetes: ...

    def key(self, name: str) -> PodKey: ...

    def create(self, name: str, *, node: str = "", **annotations: str) -> str:
        """The uid of a pod of the agent's node, or of another."""
        ...

    def annotate(self, name: str, annotations: Mapping[str, str]) -> None: ...

    def delete(self, name: str) -> None: ...

    def service(self, external: str) -> None:
        """With this external address."""
        ...

    def events(self) -> list[Told]: ...

    def annotations(self, name: str) -> Mapping[str, str]: ...

    def close(self) -> None: ...


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.01)


class FakeWorld:
    def __init__(self) -> None:
        self.node = "node1"
        self._fake = FakeKubernetes(self.node)
        self._pods: dict[str, Pod] = {}

    @property
    def port(self) -> Kubernetes:
        return self._fake

    def key(self, name: str) -> PodKey:
        return PodKey("default", name)

    def create(self, name: str, *, node: str = "", **annotations: str) -> str:
        uid = unique("uid")
        self._pods[name] = Pod(self.key(name), uid, node or self.node, annotations=annotations)
        self._fake.put_pod(self._pods[name])
        return uid

    def annotate(self, name: str, annotations: Mapping[str, str]) -> None:
        self._fake.annotate(self._pods[name], annotations)

    def delete(self, name: str) -> None:
        self._fake.remove_pod(self.key(name))

    def service(self, external: str) -> None:
        self._fake.put_services({ip_address(external)}, (ip_network("10.96.0.0/16"),))

    def events(self) -> list[Told]:
        return [Told(e.about, e.reason, e.message, e.count) for e in self._fake.events]

    def annotations(self, name: str) -> Mapping[str, str]:
        return self._fake.annotations(self.key(name))

    def close(self) -> None:
        asyncio.run(self._fake.close())


class ServerWorld:
    """The adapter over an API server: the lab's small one, or a real one."""

    def __init__(self, kube: Kube, directory: Path) -> None:
        self._kube = kube
        self.node = unique("node")
        config = KubernetesConfig(
            self.node, kubeconfig=kubeconfig(kube, directory), backoff_first=0.01, backoff_cap=0.1, calm=0.01
        )
        self._adapter = KubernetesAdapter(config, SystemClock())
        self._adapter.start()

    @property
    def port(self) -> Kubernetes:
        return self._adapter

    def key(self, name: str) -> PodKey:
        return PodKey(self._kube.namespace, name)

    def create(self, name: str, *, node: str = "", **annotations: str) -> str:
        body = pod_body(name, node=node or self.node, annotations=annotations)
        answer = self._kube.request("POST", "pods", body)
        assert answer.status == 201, answer
        return str(answer.body["metadata"]["uid"])

    def annotate(self, name: str, annotations: Mapping[str, str]) -> None:
        answer = self._kube.patch(f"pods/{name}", {"metadata": {"annotations": dict(annotations)}})
        assert answer.status == 200, answer

    def delete(self, name: str) -> None:
        answer = self._kube.request("DELETE", f"pods/{name}", {"gracePeriodSeconds": 0})
        assert answer.status == 200, answer

    def service(self, external: str) -> None:
        spec = {"ports": [{"port": 80}], "externalIPs": [external]}
        if self._kube.api.configuration.host.startswith("http://"):
            spec["clusterIP"] = "10.96.7.7"  # the small one gives none
        answer = self._kube.request("POST", "services", {"metadata": {"name": unique("svc")}, "spec": spec})
        assert answer.status == 201, answer

    def events(self) -> list[Told]:
        found = []
        for namespace in (self._kube.namespace, "default"):
            items: list[Any] = self._kube.request("GET", f"/api/v1/namespaces/{namespace}/events").body[
                "items"
            ]
            for item in items:
                about = item["involvedObject"]
                if about["kind"] == "Node" and about["name"] != self.node:
                    continue
                name = "node" if about["kind"] == "Node" else f"{about['namespace']}/{about['name']}"
                found.append(Told(name, item["reason"], item["message"], int(item.get("count") or 1)))
        return found

    def annotations(self, name: str) -> Mapping[str, str]:
        found = self._kube.request("GET", f"pods/{name}").body["metadata"]
        return dict(found.get("annotations") or {})

    def close(self) -> None:
        self._adapter.close_now()
