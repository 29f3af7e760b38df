"""A Kubernetes without a server: the port ``control.model.pod.Kubernetes`` over a dictionary.

For tests of use cases, and for whoever runs the agent's parts without a cluster. What it does is what the
adapter does over a real API server: tests/contract/kube/test_port.py is run against both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from control.kube.pods import has_uid
from control.kube.subscribers import Subscribers
from control.model.errors import KubernetesError, PodNotFound
from control.model.ids import Address, PodKey
from control.model.pod import EventType, Network, Pod, Unsubscribe


@dataclass(frozen=True, slots=True)
class FakeEvent:
    """``about`` is namespace/name of a pod, or "node"; ``count``: how often, of one topic."""

    about: str
    kind: EventType
    reason: str
    message: str
    count: int = 1


class FakeKubernetes:
    """``node`` is the agent's: the cache has its pods, a GET finds those of others too."""

    def __init__(self, node: str = "node1", *, cluster: str = "cluster-1") -> None:
        self._node = node
        self._cluster = cluster
        self._objects: dict[PodKey, Pod] = {}
        """Of all nodes, as the server has them."""
        self._events: dict[tuple[str, EventType, str, str], FakeEvent] = {}
        self._annotations: dict[PodKey, dict[str, str]] = {}
        self._translated: frozenset[Address] = frozenset()
        self._ranges: tuple[Network, ...] | None = None
        self._services_wanted = False
        self._on_pods = Subscribers("pods")
        self._on_services = Subscribers("services")
        self.away = False
        """The API server does not answer. What has been seen stays."""
        self._seen: Mapping[PodKey, Pod] = {}
        self._synced = True

    # The cluster's side

    def put_pod(self, pod: Pod) -> Pod:
        self._objects[pod.key] = pod
        self._show()
        return pod

    def remove_pod(self, key: PodKey) -> None:
        self._objects.pop(key, None)
        self._show()

    def remove_pods(self) -> None:
        self._objects.clear()
        self._show()

    def put_services(self, addresses: Iterable[Address], ranges: tuple[Network, ...] | None = None) -> None:
        """What the Services have outside ``ranges``; None: no range is known."""
        self._translated, self._ranges = frozenset(addresses), ranges
        self._on_services.publish()

    def forget(self) -> None:
        """As an agent that has just been started, and has not listed yet."""
        self._seen, self._synced = {}, False

    def come_back(self) -> None:
        """The server answers, and the agent lists."""
        self.away, self._synced = False, True
        self._show()

    @property
    def events(self) -> list[FakeEvent]:
        return list(self._events.values())

    def annotations(self, key: PodKey) -> Mapping[str, str]:
        """What was written to the pod."""
        return self._annotations.get(key, {})

    def _show(self) -> None:
        if self.away or not self._synced:
            return
        self._seen = {key: pod for key, pod in self._objects.items() if pod.node == self._node}
        self._on_pods.publish()

    # The port

    async def pod(self, key: PodKey, uid: str | None) -> Pod:
        cached = self._seen.get(key)
        if cached is not None and has_uid(cached, uid):
            return cached
        found = self._get(key)
        if found is None or not has_uid(found, uid):
            raise PodNotFound(f"there is no pod {key} (uid {uid}) in Kubernetes")
        return found

    async def exists(self, key: PodKey, uid: str) -> bool:
        found = self._get(key)
        return found is not None and has_uid(found, uid)

    async def cluster_id(self) -> str:
        self._require_server()
        return self._cluster

    def synced(self) -> bool:
        return self._synced

    def pods(self) -> Mapping[PodKey, Pod]:
        return self._seen

    def on_pods(self, call: Callable[[], None]) -> Unsubscribe:
        return self._on_pods.add(call, at_once=self._synced)

    def service_addresses(self) -> frozenset[Address] | None:
        return self._translated if self._services_wanted else None

    def service_cidrs(self) -> tuple[Network, ...] | None:
        return self._ranges if self._services_wanted else None

    def on_services(self, call: Callable[[], None]) -> Unsubscribe:
        self._services_wanted = True
        return self._on_services.add(call, at_once=True)

    def event(
        self, target: Pod | None, kind: EventType, reason: str, message: str, *, topic: str = ""
    ) -> None:
        about = str(target.key) if target else "node"
        key = (about, kind, reason, topic or message)
        before = self._events.get(key)
        if before is None:
            self._events[key] = FakeEvent(about, kind, reason, message)
        else:
            self._events[key] = replace(before, message=message, count=before.count + 1)

    def annotate(self, pod: Pod, annotations: Mapping[str, str]) -> None:
        """As a patch does: of a pod that is gone, or is another by now, nothing is written."""
        found = self._objects.get(pod.key)
        if found is None or found.uid != pod.uid:
            return
        self._annotations.setdefault(pod.key, {}).update(annotations)
        self.put_pod(replace(found, annotations={**found.annotations, **annotations}))

    async def close(self) -> None:
        self._on_pods.close()
        self._on_services.close()

    def _get(self, key: PodKey) -> Pod | None:
        self._require_server()
        return self._objects.get(key)

    def _require_server(self) -> None:
        if self.away:
            raise KubernetesError("the API server is away")
