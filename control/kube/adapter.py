"""``KubernetesAdapter``: the port ``control.model.pod.Kubernetes`` over the official client.

``pod`` answers from the watch's cache without leaving the event loop, which is the usual way of an ADD. What
the cache lacks is asked for by one GET in a small pool of threads, within ``get_timeout``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from control.kube.cache import PodCache
from control.kube.connection import Connection, KubernetesConfig, Refused, Request, quote
from control.kube.notes import EventKey, EventNote, Involved, PatchKey, PatchNote
from control.kube.outbox import Outbox, OutboxCounts
from control.kube.pods import has_uid, parse_pod, revision_of
from control.kube.service_cidrs import ServiceCidrs
from control.kube.services import ServiceCache
from control.kube.subscribers import Subscribers
from control.kube.watcher import Subject, WatchCounts, Watcher
from control.model.clock import Clock
from control.model.errors import KubernetesError, PodNotFound
from control.model.ids import Address, PodKey
from control.model.pod import EventType, Network, Pod, Unsubscribe

_GET_THREADS = 4
_MESSAGE_LIMIT = 1024
"""Characters of an event's message that the API takes."""


@dataclass(frozen=True, slots=True)
class KubernetesCounts:
    """For metrics. ``gets`` counts look-ups of single pods since the start."""

    pods: WatchCounts
    services: WatchCounts
    gets: int
    outbox: OutboxCounts


class KubernetesAdapter:
    """Implements ``control.model.pod.Kubernetes``. ``start`` once; it returns at once, server or not."""

    def __init__(self, config: KubernetesConfig, clock: Clock) -> None:
        """Raises ConfigError if the credentials cannot be read. Sends nothing yet."""
        self._config = config
        self._clock = clock
        self._connection = Connection(config)
        self._cache = PodCache()
        self._on_pods = Subscribers("pods")
        self._cache.on_change = self._on_pods.publish
        mine = Subject("this node's pods", "/api/v1/pods", {"fieldSelector": f"spec.nodeName={config.node}"})
        self._pod_watcher = Watcher(config, self._connection, mine, self._cache)
        self._cidrs = ServiceCidrs(self._connection, config.service_cidrs, config.send_timeout)
        self._services = ServiceCache()
        self._on_services = Subscribers("services")
        self._services.on_change = self._on_services.publish
        everybodys = Subject("the Services", "/api/v1/services", before_list=self._know_ranges)
        self._service_watcher = Watcher(config, self._connection, everybodys, self._services)
        self._services_wanted = False
        self._outbox = Outbox(config, self._connection)
        self._threads = ThreadPoolExecutor(_GET_THREADS, thread_name_prefix="kube-get")
        self._gets = 0

    def start(self) -> None:
        self._pod_watcher.start()
        self._outbox.start()

    async def pod(self, key: PodKey, uid: str | None) -> Pod:
        cached = self._cache.pods.get(key)
        if cached is not None and has_uid(cached, uid):
            return cached
        found = await self._get(key)
        if found is None:
            raise PodNotFound(
                f"there is no pod {key} in Kubernetes",
                remedy="it was deleted; the runtime will remove its sandbox",
            )
        if not has_uid(found, uid):
            raise PodNotFound(
                f"pod {key} has uid {found.uid} in Kubernetes, and was asked for with uid {uid}",
                remedy="it was deleted and made anew; the runtime will ask again for the new one",
            )
        return found

    async def exists(self, key: PodKey, uid: str) -> bool:
        found = await self._get(key)
        return found is not None and has_uid(found, uid)

    async def cluster_id(self) -> str:
        query = {"fieldSelector": "metadata.name=kubernetes"}
        request = Request("GET", "/api/v1/namespaces/default/services", query)
        timeout = self._config.get_timeout
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout + 0.5):
                answer = await loop.run_in_executor(
                    self._threads, lambda: self._connection.call(request, timeout=timeout)
                )
        except TimeoutError as exc:
            raise KubernetesError(f"LIST of the Service default/kubernetes took over {timeout} s") from exc
        found = [one["metadata"]["uid"] for one in answer["items"]]
        return str(found[0]) if found else ""

    def synced(self) -> bool:
        return self._cache.synced

    def pods(self) -> Mapping[PodKey, Pod]:
        return self._cache.pods

    def on_pods(self, call: Callable[[], None]) -> Unsubscribe:
        return self._on_pods.add(call, at_once=self._cache.synced)

    def service_addresses(self) -> frozenset[Address] | None:
        return self._services.addresses

    def service_cidrs(self) -> tuple[Network, ...] | None:
        return self._cidrs.known

    def on_services(self, call: Callable[[], None]) -> Unsubscribe:
        end = self._on_services.add(call, at_once=self._services.addresses is not None)
        if not self._services_wanted:
            self._services_wanted = True
            self._service_watcher.start()
        return end

    def event(
        self, target: Pod | None, kind: EventType, reason: str, message: str, *, topic: str = ""
    ) -> None:
        if target is None:
            # The uid by which a kubelet signs its own node's events, and kubectl describe looks for them.
            involved = Involved("Node", "", self._config.node, self._config.node)
        else:
            involved = Involved("Pod", target.key.namespace, target.key.name, target.uid)
        now = self._clock.now()
        message = message[:_MESSAGE_LIMIT]
        self._outbox.put(EventNote(EventKey(involved, kind, reason, topic or message), message, now, now))

    def annotate(self, pod: Pod, annotations: Mapping[str, str]) -> None:
        self._outbox.put(PatchNote(PatchKey(pod.key, pod.uid), dict(annotations)))

    def position(self) -> int:
        """The revision up to which the watch has told everything; 0 before the first list."""
        return self._cache.position

    def counts(self) -> KubernetesCounts:
        return KubernetesCounts(
            pods=self._pod_watcher.counts(),
            services=self._service_watcher.counts(),
            gets=self._gets,
            outbox=self._outbox.counts,
        )

    async def close(self) -> None:
        """Flushes events and patches for a second at most. Closing twice is closing once."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """``close`` for a caller without an event loop."""
        self._pod_watcher.stop()
        self._service_watcher.stop()
        self._on_pods.close()
        self._on_services.close()
        self._outbox.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    def _know_ranges(self) -> None:
        self._cidrs.look_up()
        self._services.ranges = self._cidrs.known or ()

    async def _get(self, key: PodKey) -> Pod | None:
        """Raises KubernetesError, also if the threads are too busy with a slow server to come to it."""
        self._gets += 1
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._config.get_timeout + 0.5):
                return await loop.run_in_executor(self._threads, self._fetch, key)
        except TimeoutError as exc:
            raise KubernetesError(
                f"GET of pod {key} at {self._connection.server} took over {self._config.get_timeout} s",
                remedy="check that the API server is not overloaded; the runtime will try again",
            ) from exc

    def _fetch(self, key: PodKey) -> Pod | None:
        if not key.namespace or not key.name:
            return None  # the path would be that of a list
        path = f"/api/v1/namespaces/{quote(key.namespace)}/pods/{quote(key.name)}"
        try:
            value = self._connection.call(Request("GET", path), timeout=self._config.get_timeout)
        except Refused as exc:
            if exc.status == 404:
                return None
            raise
        pod = parse_pod(value)
        if pod.node == self._config.node:
            self._cache.offer(pod, revision_of(value))
        return pod
