"""The verbs: create, get, list, update, patch, delete, with Kubernetes' meaning, over a ``History``.

Writers read, decide outside the lock, and commit only if nobody was faster; else they start over. A caller
inside the process uses it like the HTTP server does; what it gets back belongs to the store and is only read.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.kube import rules
from lab.kube.history import Compacted, History, Key, Raced, Stored
from lab.kube.patches import Patch
from lab.kube.resources import (
    CRDS,
    NAMESPACES,
    PODS,
    Object,
    Resource,
    ResourceTable,
    resources_of,
)
from lab.kube.selectors import Filter
from lab.kube.status import (
    ApiError,
    already_exists,
    bad_request,
    conflict,
    expired,
    forbidden,
    invalid,
    not_found,
    too_large_revision,
)

FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. ``namespace`` is "" for cluster-scoped resources."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Preconditions:
    """Of a delete; "" asks for nothing."""

    uid: str = ""
    resource_version: str = ""

    def check(self, target: Target, metadata: Mapping[str, Any]) -> None:
        pairs = (
            ("UID", self.uid, metadata["uid"]),
            ("RV", self.resource_version, metadata["resourceVersion"]),
        )
        for what, wanted, actual in pairs:
            if wanted and wanted != actual:
                why = (
                    f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
                )
                raise conflict(target.resource, target.name, why)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """``limit`` 0 is no limit; ``revision`` 0 is the current state, else at least (``exact``: just) that."""

    filter: Filter
    limit: int = 0
    continue_token: str = ""
    revision: int = 0
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a list. ``remaining`` is None where the real server gives no count."""

    revision: int
    items: tuple[Stored, ...]
    continue_token: str = ""
    remaining: int | None = None


class Store:
    """All objects of one API server. Thread-safe. ``now`` gives the time of creation and deletion."""

    def __init__(self, *, now: Callable[[], float] = time.time, depth: int = 10_000) -> None:
        self.history = History(depth=depth)
        self.resources = ResourceTable()
        self._now = now
        for name in FIRST_NAMESPACES:
            self.create(Target(NAMESPACES), {"metadata": {"name": name}})

    def get(self, target: Target) -> Stored:
        """Raises ApiError 404."""
        found = self.history.get(target.resource.collection, target.key)
        if found is None:
            raise not_found(target.resource, target.name)
        return found

    def create(self, target: Target, body: Any) -> Stored:
        """``target.name`` is not used: the body names the object. Raises ApiError 400, 404, 409, 422."""
        resource, namespace = target.resource, target.namespace
        defined = resources_of(body) if resource is CRDS and isinstance(body, dict) else ()
        value = rules.new_object(resource, namespace, body, now=self._now())
        if resource.namespaced:
            self._check_namespace(resource, namespace, value["metadata"]["name"])
        key = (namespace if resource.namespaced else "", value["metadata"]["name"])
        try:
            stored = self.history.write(resource.collection, key, value, expected=None)
        except Raced as exc:
            raise already_exists(resource, key[1]) from exc
        if defined:
            self.resources.define(defined)
        return stored

    def update(self, target: Target, body: Any) -> Stored:
        """Replace, or with subresource ``status`` replace the status. Raises ApiError 400, 404, 409, 422."""
        custom = target.resource.custom
        if custom and isinstance(body, dict) and not (body.get("metadata") or {}).get("resourceVersion"):
            why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
            raise invalid(target.resource, target.name, why)
        status = target.subresource == "status"
        return self._change(
            target, lambda old: rules.changed_object(target.resource, old, body, status=status)
        )

    def patch(self, target: Target, patch: Patch) -> Stored:
        """Raises ApiError 400, 404, 409, 415, 422."""
        status = target.subresource == "status"

        def change(old: Object) -> Object:
            patched = patch.apply(target.resource, old)
            rules.check_patched(target.resource, old, patched)
            return rules.changed_object(target.resource, old, patched, status=status)

        return self._change(target, change)

    def bind(self, target: Target, binding: Any) -> Stored:
        """The pod's subresource ``binding``: give it a node. Raises ApiError 400, 404, 409."""
        assert target.resource is PODS
        return self._change(target, lambda old: rules.bound_pod(old, target.name, binding))

    def delete(self, target: Target, preconditions: Preconditions) -> tuple[Stored, bool]:
        """The last state, and whether the object is gone (False: it waits for its finalizers).

        A pod is seen marked before it is seen gone, but its grace period is not waited for: there is no
        kubelet here. A namespace takes its objects with it.
        Raises ApiError 404 or 409.
        """
        collection = target.resource.collection
        while True:
            old = self.get(target)
            preconditions.check(target, old.value["metadata"])
            held = bool(old.value["metadata"].get("finalizers"))
            marked = rules.marked_for_deletion(old.value, now=self._now())
            try:
                if marked is not old.value and (held or target.resource is PODS):
                    old = self.history.write(collection, target.key, marked, expected=old)
                return (old, False) if held else (self._remove(target.resource, old, old.value), True)
            except Raced:
                continue

    def delete_collection(self, target: Target, query: ListQuery) -> Page:
        """Delete what ``query`` selects; the page holds the objects as they were."""
        page = self.list(target.resource, query)
        for item in page.items:
            try:
                self.delete(
                    Target(target.resource, *item.key), Preconditions(uid=item.value["metadata"]["uid"])
                )
            except ApiError as exc:
                if exc.code not in (404, 409):
                    raise
        return page

    def list(self, resource: Resource, query: ListQuery) -> Page:
        """Raises ApiError 400, 410 (the snapshot is compacted) or 504 (``revision`` lies ahead)."""
        start, revision = _read_token(query.continue_token)
        if not start and query.exact:
            revision = query.revision
        if max(revision or 0, query.revision) > self.history.revision:
            raise too_large_revision(max(revision or 0, query.revision), self.history.revision)
        try:
            revision, objects = self.history.snapshot(resource.collection, revision)
        except Compacted as exc:
            raise _list_expired(bool(start)) from exc
        keys = sorted(key for key in objects if start is None or key > start)
        found = [objects[key] for key in keys if query.filter.matches(objects[key])]
        if not query.limit or len(found) <= query.limit:
            return Page(revision, tuple(found))
        items = tuple(found[: query.limit])
        left = None if query.filter.selects else len(found) - query.limit
        return Page(revision, items, _write_token(items[-1].key, revision), left)

    def _change(self, target: Target, change: Callable[[Object], Object]) -> Stored:
        """Apply a pure change. Storing what is there already makes no new revision and no event."""
        collection = target.resource.collection
        while True:
            old = self.get(target)
            new = change(old.value)
            metadata = new["metadata"]
            try:
                if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
                    return self._remove(target.resource, old, new)
                if new == old.value:
                    return old
                stored = self.history.write(collection, target.key, new, expected=old)
            except Raced:
                continue
            if target.resource is CRDS:
                self.resources.define(resources_of(new))
            return stored

    def _remove(self, resource: Resource, old: Stored, last: Object) -> Stored:
        gone = self.history.remove(resource.collection, old, last)
        if resource is NAMESPACES:
            self._empty(lambda other, key: other.namespaced and key[0] == old.key[1])
        elif resource is CRDS:
            self._empty(lambda other, _key: other.collection == old.key[1])
            self.resources.remove(old.key[1])
        return gone

    def _empty(self, belongs: Callable[[Resource, Key], bool]) -> None:
        """Remove objects whose namespace or definition is gone, finalizers or not."""
        for resource in {r.collection: r for r in self.resources.all()}.values():
            for key, stored in self.history.snapshot(resource.collection)[1].items():
                if belongs(resource, key):
                    try:
                        self.history.remove(resource.collection, stored, stored.value)
                    except Raced:
                        continue

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self.get(Target(NAMESPACES, "", namespace))
        if found.value["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource, name, why)


def _list_expired(continued: bool) -> ApiError:
    if continued:
        return expired(
            "The provided continue parameter is too old to display a consistent list result. "
            "You must start a new list without the continue parameter."
        )
    return expired("The resourceVersion for the provided list is too old.")


def _write_token(key: Key, revision: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, *key]).encode()).decode()


def _read_token(token: str) -> tuple[Key | None, int | None]:
    """Where to go on, and at which revision. Raises ApiError 400."""
    if not token:
        return None, None
    try:
        revision, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return (str(namespace), str(name)), int(revision)
    except (ValueError, TypeError) as exc:
        raise bad_request(f"continue key is not valid: {exc}") from exc
