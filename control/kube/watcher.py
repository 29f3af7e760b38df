"""The thread that lists one kind of object and then watches it, for as long as the agent lives.

The first list may come from the server's cache (resourceVersion 0): a thousand restarting agents then cost
etcd nothing. A broken watch goes on from where it was. A revision that the server has forgotten (410, as a
status or as an ERROR event) or does not know yet (504, a new server) means a fresh list.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from control.kube.backoff import Backoff
from control.kube.connection import Connection, KubernetesConfig, Refused, Request, Stream
from control.kube.lists import ListAnswer, Malformed
from control.kube.pods import revision_of
from control.model.errors import KubernetesError

log = logging.getLogger(__name__)

_FORGOTTEN = (410, 504)
_PAGE = 500
"""Objects of one page of a list that does not come out of the server's memory, which knows no pages."""
_IDLE_MARGIN = 15.0
"""Seconds after the end of a watch when a connection that says nothing counts as dead.

Silence before that proves nothing: on a quiet server not even bookmarks come. A peer that is gone is found
earlier, by TCP keepalive.
"""
_STOP_WAIT = 2.0
"""Seconds that ``stop`` waits for a thread that is in the middle of a request."""

Thing = TypeVar("Thing")


class Replica(Protocol[Thing]):
    """What a watcher keeps current; called by its thread alone. ``Thing`` is what is kept of an object."""

    @property
    def position(self) -> int:
        """The revision up to which the watch has told everything; 0 before the first list."""
        ...

    def read(self, value: Mapping[str, Any]) -> Thing:
        """Any error means that the server's answer makes no sense: it is logged and asked for again."""
        ...

    def replace(self, things: Iterable[Thing], position: int) -> None:
        """A list's answer."""
        ...

    def put(self, thing: Thing, revision: int) -> None:
        """An object that the watch has shown."""
        ...

    def remove(self, thing: Thing, revision: int) -> None: ...

    def advance(self, revision: int) -> None:
        """A bookmark: nothing happened up to ``revision``."""
        ...


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Subject:
    """What is listed and watched. ``what`` names it in the log, ``query`` selects."""

    what: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    before_list: Callable[[], None] = _nothing
    """Called by the thread before each list; a KubernetesError counts as one of the list."""


@dataclass(frozen=True, slots=True)
class WatchCounts:
    """``connected`` is whether the watch stands now, the rest counts since the start."""

    connected: bool
    lists: int
    failures: int


class Watcher(Generic[Thing]):
    """Keeps ``replica`` current from ``start`` until ``stop``."""

    def __init__(
        self, config: KubernetesConfig, connection: Connection, subject: Subject, replica: Replica[Thing]
    ) -> None:
        self._config = config
        self._connection = connection
        self._subject = subject
        self._replica = replica
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._backoff = Backoff(config.backoff_first, config.backoff_cap)
        self._thread = threading.Thread(target=self._run, name="kube-watch", daemon=True)
        self._list_from: str | None = "0"
        self._connected = False
        """The last list or watch was accepted, and the watch has not broken since."""
        self._lists = 0
        self._failures = 0

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

    def counts(self) -> WatchCounts:
        return WatchCounts(self._connected, self._lists, self._failures)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except KubernetesError as exc:
                self._failed(exc)
            except Exception:  # the thread's last barrier: a cache that silently stops is worse than a retry
                log.exception("the watch of %s stumbled over an answer; it lists again", self._subject.what)
                self._list_from = ""
                self._stopping.wait(self._backoff.pause())

    def _step(self) -> None:
        """One list if one is due, then one watch to its end."""
        if self._list_from is not None:
            self._list(self._list_from)
        if not self._watch():
            self._stopping.wait(self._backoff.pause())

    def _list(self, revision: str) -> None:
        """From the server's memory in one answer, or its newest state ("") in pages of one moment."""
        self._subject.before_list()
        things: list[Thing] = []
        asked: dict[str, str | int] = {"resourceVersion": revision} if revision else {"limit": _PAGE}
        while True:
            metadata = self._page(asked, things)
            token = metadata.get("continue")
            if not token:
                break
            asked = {"limit": _PAGE, "continue": token}
        self._replica.replace(things, revision_of({"metadata": metadata}))
        self._list_from = None
        self._lists += 1
        self._succeeded()

    def _page(self, asked: Mapping[str, str | int], things: list[Thing]) -> Mapping[str, Any]:
        """One answer's objects to the end of ``things``. Returns its metadata."""
        request = Request("GET", self._subject.path, {**self._subject.query, **asked})
        with self._streaming(request, self._config.list_timeout) as stream:
            answer = ListAnswer(stream.chunks())
            try:
                for value in answer:
                    things.append(self._replica.read(value))
            except Malformed as exc:
                raise stream.unreadable(exc) from exc
        metadata: Mapping[str, Any] = answer.rest["metadata"]
        return metadata

    def _watch(self) -> bool:
        """Follow one watch until the server ends it. True if it told anything."""
        seconds = max(1, int(self._config.watch_seconds * random.uniform(0.9, 1.0)))
        query: dict[str, str | int] = {
            **self._subject.query,
            "resourceVersion": str(self._replica.position),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": seconds,
            "watch": "true",
        }
        told = False
        with self._streaming(Request("GET", self._subject.path, query), seconds + _IDLE_MARGIN) as stream:
            self._succeeded()
            for line in stream.lines():
                self._take(json.loads(line))
                told = True
                self._backoff.reset()
        return told

    @contextmanager
    def _streaming(self, request: Request, idle: float) -> Iterator[Stream]:
        """An answer that ``stop`` cuts short."""
        stream = self._connection.stream(request, connect=self._config.send_timeout, idle=idle)
        try:
            with self._lock:
                self._stream = stream
            if self._stopping.is_set():
                stream.close()
            yield stream
        finally:
            with self._lock:
                self._stream = None
            stream.end()

    def _take(self, event: Mapping[str, Any]) -> None:
        value = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._replica.put(self._replica.read(value), revision_of(value))
            case "DELETED":
                self._replica.remove(self._replica.read(value), revision_of(value))
            case "BOOKMARK":
                self._replica.advance(revision_of(value))
            case "ERROR":
                what = f"the watch of {self._subject.what} ended: {value.get('message')}"
                raise Refused(what, status=int(value.get("code") or 500), reason=str(value.get("reason")))

    def _succeeded(self) -> None:
        if not self._connected and self._failures:
            log.info("the API server at %s shows %s again", self._connection.server, self._subject.what)
        self._connected = True

    def _failed(self, exc: KubernetesError) -> None:
        if self._stopping.is_set():
            return
        if isinstance(exc, Refused) and exc.status in _FORGOTTEN:
            log.info("listing %s anew: %s", self._subject.what, exc)
            # Not older than what is known: the server's cache can often answer that. Failing it, the newest.
            self._list_from = str(self._replica.position) if self._list_from is None else ""
        elif self._connected or not self._failures:
            log.warning("%s", exc)
        self._connected = False
        self._failures += 1
        self._stopping.wait(self._backoff.pause())
