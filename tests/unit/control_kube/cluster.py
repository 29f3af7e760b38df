"""The small API server on a loopback port, and adapters that talk to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from control.kube.adapter import KubernetesAdapter
from control.kube.connection import KubernetesConfig
from control.model.clock import SystemClock
from control.model.ids import PodKey
from lab.kube.patches import MERGE_PATCH, Patch
from lab.kube.requests import parse_list, parse_url
from lab.kube.resources import EVENTS, PODS
from lab.kube.server import DEFAULT_OPTIONS, KubeServer, ServerOptions
from lab.kube.store import Preconditions, Store, Target

NODE = "node1"
_DEADLINE_SECONDS = 60.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds; fails with ``what`` after a minute."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.005)


class Cluster:
    """A store behind a server that can go away and come back on its port. ``close`` ends everything."""

    def __init__(self, options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self.store = Store()
        self.server = KubeServer(self.store, options)
        self.port = self.server.start("127.0.0.1", 0)
        self.adapters: list[KubernetesAdapter] = []

    def config(self, **changes: Any) -> KubernetesConfig:
        base = KubernetesConfig(
            NODE, url=f"http://127.0.0.1:{self.port}", backoff_first=0.01, backoff_cap=0.1
        )
        return replace(base, **changes)

    def adapter(self, **changes: Any) -> KubernetesAdapter:
        """Not started; closed by ``close``."""
        made = KubernetesAdapter(self.config(**changes), SystemClock())
        self.adapters.append(made)
        return made

    def synced(self, **changes: Any) -> KubernetesAdapter:
        """Started, with its first list read and its watch standing."""
        adapter = self.adapter(**changes)
        watches = self.watches("pods")
        adapter.start()
        eventually(adapter.synced, "the cache is synced")
        eventually(lambda: self.watches("pods") > watches, "the watch stands")
        return adapter

    def close(self) -> None:
        for adapter in self.adapters:
            adapter.close_now()
        self.server.stop()

    def away(self) -> None:
        self.server.stop()

    def back(self) -> None:
        self.server.start("127.0.0.1", self.port)

    def count(self, text: str, method: str = "GET") -> int:
        """Requests whose path with query contains ``text``."""
        return sum(made == method and text in path for made, path in self.server.requests)

    def watches(self, plural: str) -> int:
        """Watches of a core resource over all namespaces that have begun."""
        return sum(
            made == "GET" and path.startswith(f"/api/v1/{plural}?") and "watch=true" in path
            for made, path in self.server.requests
        )

    def create(self, name: str, *, node: str = NODE, spec: Any = None, **metadata: Any) -> str:
        """A pod in ``default``; returns its uid."""
        body = {
            "metadata": {"name": name, **metadata},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}], **(spec or {})},
        }
        stored = self.store.create(Target(PODS, "default"), body)
        return str(stored.value["metadata"]["uid"])

    def remove(self, name: str) -> None:
        self.store.delete(Target(PODS, "default", name), Preconditions())

    def patch(self, name: str, document: Any, subresource: str = "") -> None:
        target = Target(PODS, "default", name, subresource)
        self.store.patch(target, Patch(MERGE_PATCH, document))

    def annotations(self, name: str) -> dict[str, str]:
        value = self.store.get(Target(PODS, "default", name)).value
        return dict(value["metadata"].get("annotations") or {})

    def events(self) -> list[dict[str, Any]]:
        page = self.store.list(EVENTS, parse_list(Target(EVENTS), parse_url("/")))
        return [item.value for item in page.items]


def key(name: str) -> PodKey:
    return PodKey("default", name)
