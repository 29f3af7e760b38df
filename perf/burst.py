"""Pods of a cluster made at once and ended at once, with the moments at which their user sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from lab.client import Lab
from lab.kube_client import KubeClient
from lab.kubernetes.images import PAUSE
from lab.messages import LabError

Object = dict[str, Any]
NAMESPACE = "default"
_LABEL = "perf=pods"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_CALLERS = 8
_SILENCE = 60.0
"""Seconds in which no pod changes, after which it is given up."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds per pod, sorted: from the request to create it to Ready, from that to delete it to gone.

    Both ends are a client's: just before the request is sent, and when the watch tells.
    """

    ready: tuple[float, ...]
    gone: tuple[float, ...]


class Burst:
    """``per_node`` pods on every node of ``lab``: one container of the pause image, no probe, no token.

    A pause container ends at once when it is asked to, so that what is timed is the sandbox.
    """

    def __init__(self, lab: Lab, per_node: int) -> None:
        self._kubernetes = lab.kubernetes
        self._pods = {
            f"{n.name}-{i}": pod(f"{n.name}-{i}", n.name) for i in range(per_node) for n in lab.nodes
        }

    def run(self, between: Callable[[], None]) -> Moments:
        """Create all, call ``between`` when all are Ready, delete all. Raises LabError."""
        before = self._kubernetes.request("GET", f"{_PODS}?labelSelector={_LABEL}")
        version = before["metadata"]["resourceVersion"]
        query = f"watch=1&labelSelector={_LABEL}&resourceVersion={version}"
        with closing(self._kubernetes.watch(f"{_PODS}?{query}", silence=_SILENCE)) as events:
            ready = self._all(self._create, events, is_ready)
            between()
            gone = self._all(self._delete, events, is_gone)
        return Moments(ready, gone)

    def _all(
        self, ask: Callable[[str], float], events: Iterator[Object], there: Callable[[Object], bool]
    ) -> tuple[float, ...]:
        """Ask for every pod, a few at a time, and read until each is ``there``."""
        with ThreadPoolExecutor(_CALLERS, thread_name_prefix="burst") as callers:
            asked = {name: callers.submit(ask, name) for name in self._pods}
            seen = _first(events, there, set(self._pods))
            return tuple(sorted(seen[name] - asked[name].result() for name in self._pods))

    def _create(self, name: str) -> float:
        return _timed(self._kubernetes, "POST", _PODS, self._pods[name])

    def _delete(self, name: str) -> float:
        return _timed(self._kubernetes, "DELETE", f"{_PODS}/{name}", {})


def _timed(kubernetes: KubeClient, method: str, path: str, body: Object) -> float:
    began = time.monotonic()
    kubernetes.request(method, path, body)
    return began


def _first(events: Iterator[Object], there: Callable[[Object], bool], names: set[str]) -> Mapping[str, float]:
    """When an event of each of ``names`` was ``there`` for the first time. Raises LabError."""
    seen: dict[str, float] = {}
    for event in events:
        if event["type"] == "ERROR":
            raise LabError(f"the watch of pods ended: {event['object'].get('message')}")
        name = event["object"]["metadata"]["name"]
        if name in names and name not in seen and there(event):
            seen[name] = time.monotonic()
            if len(seen) == len(names):
                return seen
    raise LabError(f"the watch of pods ended with {len(seen)} of {len(names)} pods as wanted")


def is_ready(event: Object) -> bool:
    conditions: Sequence[Object] = event["object"].get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_gone(event: Object) -> bool:
    return bool(event["type"] == "DELETED")


def pod(name: str, node: str) -> Object:
    label, _, value = _LABEL.partition("=")
    container = {"name": "main", "image": PAUSE, "imagePullPolicy": "Never"}
    return {
        "metadata": {"name": name, "labels": {label: value}},
        "spec": {
            # Through the scheduler, as any pod; but the same number on each node.
            "nodeSelector": {"kubernetes.io/hostname": node},
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 2,
            "containers": [container],
        },
    }
