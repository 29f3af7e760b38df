"""A watch: changes of one collection as a stream of JSON lines.

An object that begins to match a selector is ADDED for the watcher and one that ceases to is DELETED,
whatever happened to it. Watchers sleep on the collection's condition and are woken by the write.
A bookmark is sent only if the revision has moved since the last thing told, as kube-apiserver does: on a
quiet server a watch is silent, and a client must not take silence for death.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lab.kube.history import Change, ChangeType, Compacted, Stored, encode
from lab.kube.resources import Object, Resource
from lab.kube.selectors import Filter
from lab.kube.status import ApiError, expired
from lab.kube.store import Store

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_BOOKMARK_BEFORE_END = 2.0
"""Seconds before its end at which a watch of limited time sends a last bookmark; kube-apiserver's figure."""


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """``revision`` 0 begins with an ADDED for everything there is. ``seconds`` is how long it lasts."""

    filter: Filter
    revision: int = 0
    seconds: float = 1800.0
    bookmarks: bool = False
    initial_events: bool = False
    """Mark the end of the initial events by a bookmark of its own."""


_SEEN_AS = {
    (False, True): ChangeType.ADDED,
    (True, True): ChangeType.MODIFIED,
    (True, False): ChangeType.DELETED,
}
"""(matched before, matches after) -> what a watcher is told."""


class Watch:
    """One client's watch. ``bookmark_every`` in seconds."""

    def __init__(self, store: Store, resource: Resource, query: WatchQuery, *, bookmark_every: float) -> None:
        self._history = store.history
        self._resource = resource
        self._query = query
        self._bookmark_every = bookmark_every

    def lines(self, alive: Callable[[], bool]) -> Iterator[bytes]:
        """The stream, to its end. ``alive`` is asked before every sleep: False if the client or server goes.

        A revision that is compacted, at once or because the reader is too slow, ends it with an ERROR.
        """
        seen = self._query.revision
        if not seen or self._query.initial_events:
            seen, objects = self._history.snapshot(self._resource.collection)
            for key in sorted(objects):
                if self._query.filter.matches(objects[key]):
                    yield line(ChangeType.ADDED, document(self._resource, objects[key]))
            if self._query.initial_events and self._query.bookmarks:
                yield self._bookmark(seen, {INITIAL_EVENTS_END: "true"})
        yield from self._follow(seen, alive)

    def _follow(self, seen: int, alive: Callable[[], bool]) -> Iterator[bytes]:
        now = time.monotonic()
        end = now + self._query.seconds
        told = seen
        bookmark_at = self._next_bookmark(now, end)
        while alive() and (now := time.monotonic()) < end:
            if now >= bookmark_at:
                bookmark_at = self._next_bookmark(now, end)
                if self._query.bookmarks and seen > told:
                    told = seen
                    yield self._bookmark(seen, {})
            wait = min(end, bookmark_at) - time.monotonic()
            try:
                seen, changes = self._history.changes(self._resource.collection, seen, wait=wait)
            except Compacted as exc:
                yield error_line(too_old(seen, exc.floor))
                return
            for change in changes:
                event = self._event(change)
                if event is not None:
                    told = change.revision
                    yield event

    def _next_bookmark(self, now: float, end: float) -> float:
        last = end - _BOOKMARK_BEFORE_END
        regular = now + self._bookmark_every
        return min(last, regular) if last > now else regular

    def _event(self, change: Change) -> bytes | None:
        """What the change is to this watcher, None if nothing."""
        before = self._query.filter.matches(change.before)
        after = change.type is not ChangeType.DELETED and self._query.filter.matches(change.after)
        kind = _SEEN_AS.get((before, after))
        return None if kind is None else line(kind, document(self._resource, change.after))

    def _bookmark(self, revision: int, annotations: dict[str, str]) -> bytes:
        metadata: Object = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        value = {
            "kind": self._resource.kind,
            "apiVersion": self._resource.api_version,
            "metadata": metadata,
        }
        return line("BOOKMARK", encode(value))


def too_old(revision: int, floor: int) -> ApiError:
    return expired(f"too old resource version: {revision} ({floor})")


def document(resource: Resource, stored: Stored) -> bytes:
    """A whole object as JSON, with kind and apiVersion of the version that was asked for."""
    prefix = f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'
    return prefix.encode() + stored.tail


def line(kind: str, value: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), value)


def error_line(error: ApiError) -> bytes:
    return line("ERROR", encode(error.body()))
