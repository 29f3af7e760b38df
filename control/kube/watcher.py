"""The thread that lists this node's pods and then watches them, for as long as the agent lives.

The first list may come from the server's cache (resourceVersion 0): a thousand restarting agents then cost
etcd nothing. A broken watch goes on from where it was. A revision that the server has forgotten (410, as a
status or as an ERROR event) or does not know yet (504, a new server) means a fresh list.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Mapping
from typing import Any

from control.kube.backoff import Backoff
from control.kube.cache import PodCache
from control.kube.connection import Connection, KubernetesConfig, Refused, Request, Stream
from control.kube.pods import parse_pod, revision_of
from control.model.errors import KubernetesError

log = logging.getLogger(__name__)

_PATH = "/api/v1/pods"
_FORGOTTEN = (410, 504)
_IDLE_MARGIN = 15.0
"""Seconds after the end of a watch when a connection that says nothing counts as dead.

Silence before that proves nothing: on a quiet server not even bookmarks come. A peer that is gone is found
earlier, by TCP keepalive.
"""
_STOP_WAIT = 2.0
"""Seconds that ``stop`` waits for a thread that is in the middle of a request."""


class PodWatcher:
    """Keeps ``cache`` current from ``start`` until ``stop``."""

    def __init__(self, config: KubernetesConfig, connection: Connection, cache: PodCache) -> None:
        self._config = config
        self._connection = connection
        self._cache = cache
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._backoff = Backoff(config.backoff_first, config.backoff_cap)
        self._thread = threading.Thread(target=self._run, name="kube-watch", daemon=True)
        self._list_from: str | None = "0"
        self.connected = False
        """The last list or watch was accepted, and the watch has not broken since."""
        self.lists = 0
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which may outlive this by one request. Stopping one that never ran does nothing."""
        self._stopping.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        if self._thread.is_alive():
            self._thread.join(_STOP_WAIT)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except KubernetesError as exc:
                self._failed(exc)
            except Exception:  # the thread's last barrier: a cache that silently stops is worse than a retry
                log.exception("the pod watch stumbled over an answer; it lists again")
                self._list_from = ""
                self._stopping.wait(self._backoff.pause())

    def _step(self) -> None:
        """One list if one is due, then one watch to its end."""
        if self._list_from is not None:
            self._list(self._list_from)
        if not self._watch():
            self._stopping.wait(self._backoff.pause())

    def _list(self, revision: str) -> None:
        query = {"fieldSelector": f"spec.nodeName={self._config.node}", "resourceVersion": revision}
        answer = self._connection.call(Request("GET", _PATH, query), timeout=self._config.list_timeout)
        pods = [parse_pod(item) for item in answer["items"]]
        self._cache.replace({pod.key: pod for pod in pods}, revision_of(answer))
        self._list_from = None
        self.lists += 1
        self._succeeded()

    def _watch(self) -> bool:
        """Follow one watch until the server ends it. True if it told anything."""
        seconds = max(1, int(self._config.watch_seconds * random.uniform(0.9, 1.0)))
        query: dict[str, str | int] = {
            "fieldSelector": f"spec.nodeName={self._config.node}",
            "resourceVersion": str(self._cache.position),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": seconds,
            "watch": "true",
        }
        stream = self._connection.stream(
            Request("GET", _PATH, query), connect=self._config.send_timeout, idle=seconds + _IDLE_MARGIN
        )
        told = False
        try:
            with self._lock:
                self._stream = stream
            self._succeeded()
            if self._stopping.is_set():
                stream.close()
            for line in stream.lines():
                self._take(json.loads(line))
                told = True
                self._backoff.reset()
        finally:
            with self._lock:
                self._stream = None
        return told

    def _take(self, event: Mapping[str, Any]) -> None:
        value = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._cache.put(parse_pod(value), revision_of(value))
            case "DELETED":
                self._cache.remove(parse_pod(value).key, revision_of(value))
            case "BOOKMARK":
                self._cache.advance(revision_of(value))
            case "ERROR":
                what = f"the watch of this node's pods ended: {value.get('message')}"
                raise Refused(what, status=int(value.get("code") or 500), reason=str(value.get("reason")))

    def _succeeded(self) -> None:
        if not self.connected and self.failures:
            log.info("the API server at %s answers again", self._connection.server)
        self.connected = True

    def _failed(self, exc: KubernetesError) -> None:
        if self._stopping.is_set():
            return
        if isinstance(exc, Refused) and exc.status in _FORGOTTEN:
            log.info("listing this node's pods anew: %s", exc)
            # Not older than what is known: the server's cache can often answer that. Failing it, the newest.
            self._list_from = str(self._cache.position) if self._list_from is None else ""
        elif self.connected or not self.failures:
            log.warning("%s", exc)
        self.connected = False
        self.failures += 1
        self._stopping.wait(self._backoff.pause())
