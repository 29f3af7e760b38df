"""Objects and their changes by revision: what etcd is to a real API server, in memory.

One counter numbers every change of every collection. A collection is the set of all objects of a resource;
it keeps its current objects and a log of changes, from which a watch continues and an older snapshot is
rebuilt by walking backwards. Compaction forgets the log up to a revision.

Stored values are never changed in place, so readers take references under the lock and work outside it.
"""

from __future__ import annotations

import bisect
import json
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-scoped object is ""."""


class ChangeType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object. ``tail`` is its JSON without the opening brace, ``kind`` and ``apiVersion``.

    The items of a typed list lack these two, a single object has them: both are a prefix and ``tail``.
    """

    key: Key
    value: dict[str, Any]
    revision: int
    tail: bytes


@dataclass(frozen=True, slots=True)
class Change:
    revision: int
    type: ChangeType
    before: Stored | None
    after: Stored
    """Of a DELETED object its last state, with the revision of the deletion."""


class Compacted(Exception):
    """The log no longer reaches back to the revision asked for. ``floor`` is where it begins."""

    def __init__(self, floor: int) -> None:
        super().__init__(f"compacted up to revision {floor}")
        self.floor = floor


class Raced(Exception):
    """Another writer was first; read again and retry."""


@dataclass(slots=True)
class _Collection:
    changed: threading.Condition
    objects: dict[Key, Stored] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    floor: int = 0

    def after(self, revision: int) -> list[Change]:
        if revision < self.floor:
            raise Compacted(self.floor)
        return self.log[bisect.bisect_right(self.log, revision, key=lambda change: change.revision) :]


class History:
    """Thread-safe. ``depth`` is how many changes of a collection are kept, between once and twice that."""

    def __init__(self, *, depth: int = 10_000) -> None:
        self._depth = depth
        self._lock = threading.Lock()
        self._collections: dict[str, _Collection] = {}
        self._revision = 1
        self._compacted = 0

    @property
    def revision(self) -> int:
        """Of the latest change."""
        return self._revision

    def get(self, collection: str, key: Key) -> Stored | None:
        with self._lock:
            return self._collection(collection).objects.get(key)

    def snapshot(self, collection: str, revision: int | None = None) -> tuple[int, dict[Key, Stored]]:
        """All objects as of ``revision`` (None: now) and that revision. Raises Compacted."""
        with self._lock:
            kept = self._collection(collection)
            objects = kept.objects.copy()
            now = self._revision
            undo = kept.after(revision) if revision is not None and revision < now else []
        for change in reversed(undo):
            if change.before is None:
                objects.pop(change.after.key, None)
            else:
                objects[change.after.key] = change.before
        return (now if revision is None else revision), objects

    def write(self, collection: str, key: Key, value: dict[str, Any], *, expected: Stored | None) -> Stored:
        """Store ``value`` as the next revision; it belongs to the history from here on.

        Raises Raced if the current version is not ``expected`` (None: there is no such object).
        """
        with self._lock:
            kept = self._expect(collection, key, expected)
            stored = self._stamp(key, value)
            kept.objects[key] = stored
            kind = ChangeType.ADDED if expected is None else ChangeType.MODIFIED
            self._record(kept, Change(stored.revision, kind, expected, stored))
            return stored

    def remove(self, collection: str, expected: Stored, last: dict[str, Any]) -> Stored:
        """Delete an object whose last state is ``last``, under the revision of the deletion. Raises Raced."""
        with self._lock:
            kept = self._expect(collection, expected.key, expected)
            stored = self._stamp(expected.key, {**last, "metadata": dict(last["metadata"])})
            del kept.objects[expected.key]
            self._record(kept, Change(stored.revision, ChangeType.DELETED, expected, stored))
            return stored

    def changes(self, collection: str, after: int, *, wait: float) -> tuple[int, list[Change]]:
        """Changes later than ``after``, and the revision up to which that is all of them.

        If there are none it waits, at most ``wait`` seconds and not longer than until ``wake``.
        Raises Compacted.
        """
        with self._lock:
            kept = self._collection(collection)
            found = kept.after(after)
            if not found and wait > 0:
                kept.changed.wait(wait)
                found = kept.after(after)
            return max(after, self._revision), found

    def wake(self) -> None:
        """Let everyone who waits in ``changes`` return."""
        with self._lock:
            for kept in self._collections.values():
                kept.changed.notify_all()

    def compact(self, revision: int | None = None) -> int:
        """Forget changes up to ``revision`` (None: all until now). Returns the new floor."""
        with self._lock:
            floor = self._revision if revision is None else min(revision, self._revision)
            self._compacted = max(self._compacted, floor)
            for kept in self._collections.values():
                kept.log = [change for change in kept.log if change.revision > floor]
                kept.floor = max(kept.floor, floor)
            return self._compacted

    def _collection(self, name: str) -> _Collection:
        found = self._collections.get(name)
        if found is None:
            found = _Collection(threading.Condition(self._lock), floor=self._compacted)
            self._collections[name] = found
        return found

    def _expect(self, collection: str, key: Key, expected: Stored | None) -> _Collection:
        kept = self._collection(collection)
        if kept.objects.get(key) is not expected:
            raise Raced
        return kept

    def _stamp(self, key: Key, value: dict[str, Any]) -> Stored:
        self._revision += 1
        value["metadata"]["resourceVersion"] = str(self._revision)
        body = {name: item for name, item in value.items() if name not in ("kind", "apiVersion")}
        return Stored(key, value, self._revision, encode(body)[1:])

    def _record(self, kept: _Collection, change: Change) -> None:
        kept.log.append(change)
        if len(kept.log) > 2 * self._depth:
            kept.floor = kept.log[-self._depth - 1].revision
            del kept.log[: -self._depth]
        kept.changed.notify_all()


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
