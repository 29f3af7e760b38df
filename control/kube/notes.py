"""The two kinds of notes that wait in the outbox, and the requests they become.

Events are core/v1 Events. Repeats of one (object, type, reason, topic) within ten minutes count up the
event that is there, and it says the latest message: a pool that stays empty is one line in ``kubectl
describe`` with the next try of now, and not a thousand objects that differ by a request id.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from control.kube.connection import MERGE_PATCH, Request, quote
from control.model.ids import PodKey
from control.model.pod import EventType

COMPONENT = "terway-daemon"
_SERIES_SECONDS = 600.0
_SERIES_KEPT = 256
_NAME_LIMIT = 253
"""Characters of an object's name that the API takes; a pod's own may have as many."""
_SUFFIX = 16
_DIGEST = 8

Subject = tuple[str, str, str]
"""Kind, namespace and name of the object that a note is about."""


@dataclass(frozen=True, slots=True)
class Involved:
    """The object an event is about. A node has no namespace, and its events live in ``default``."""

    kind: str
    namespace: str
    name: str
    uid: str

    @property
    def event_namespace(self) -> str:
        return self.namespace or "default"


@dataclass(frozen=True, slots=True)
class EventKey:
    """``topic``: what the messages of one event have in common; often there is one, and it is the topic."""

    involved: Involved
    type: EventType
    reason: str
    topic: str

    @property
    def subject(self) -> Subject:
        return self.involved.kind, self.involved.namespace, self.involved.name


@dataclass(frozen=True, slots=True)
class PatchKey:
    pod: PodKey
    uid: str

    @property
    def subject(self) -> Subject:
        return "Pod", self.pod.namespace, self.pod.name


NoteKey = EventKey | PatchKey


@dataclass(frozen=True, slots=True)
class EventNote:
    """``count`` times the same, from ``first`` to ``last`` (seconds since the epoch)."""

    key: EventKey
    message: str
    first: float
    last: float
    count: int = 1

    def merged(self, newer: Note) -> EventNote:
        newer = cast(EventNote, newer)
        return replace(self, message=newer.message, last=newer.last, count=self.count + newer.count)


@dataclass(frozen=True, slots=True)
class PatchNote:
    key: PatchKey
    annotations: Mapping[str, str]

    def merged(self, newer: Note) -> PatchNote:
        newer = cast(PatchNote, newer)
        return replace(self, annotations={**self.annotations, **newer.annotations})


Note = EventNote | PatchNote


def patch_request(note: PatchNote) -> Request:
    """The uid makes the server refuse the patch (422) if a newer pod has the name."""
    pod = note.key.pod
    return Request(
        "PATCH",
        f"/api/v1/namespaces/{quote(pod.namespace)}/pods/{quote(pod.name)}",
        body={"metadata": {"uid": note.key.uid, "annotations": dict(note.annotations)}},
        content_type=MERGE_PATCH,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """An event that the server has."""

    name: str
    first: float
    last: float
    count: int

    def request(self, note: EventNote) -> Request:
        body = {
            "count": self.count + note.count,
            "lastTimestamp": _timestamp(note.last),
            "message": note.message,
        }
        namespace = note.key.involved.event_namespace
        path = f"/api/v1/namespaces/{quote(namespace)}/events/{quote(self.name)}"
        return Request("PATCH", path, body=body, content_type=MERGE_PATCH)


class EventSeries:
    """Which events were sent lately, the latest 256. Used by one thread."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._sent: OrderedDict[EventKey, _Known] = OrderedDict()

    def known(self, note: EventNote) -> _Known | None:
        found = self._sent.get(note.key)
        if found is None or note.last - found.last > _SERIES_SECONDS:
            return None
        return found

    def sent(self, note: EventNote, name: str, *, anew: bool = False) -> None:
        """Remember that the server has ``note`` under ``name``, ``anew`` as an event of its own."""
        before = None if anew else self._sent.get(note.key)
        first = before.first if before else note.first
        count = (before.count if before else 0) + note.count
        self._sent[note.key] = _Known(name, first, note.last, count)
        self._sent.move_to_end(note.key)
        while len(self._sent) > _SERIES_KEPT:
            self._sent.popitem(last=False)

    def create(self, note: EventNote) -> tuple[Request, str]:
        """The request for a new event, and its name."""
        involved = note.key.involved
        name = event_name(involved.name)
        path = f"/api/v1/namespaces/{quote(involved.event_namespace)}/events"
        return Request("POST", path, body=self._body(note, name)), name

    def _body(self, note: EventNote, name: str) -> dict[str, Any]:
        involved = note.key.involved
        reference = {"kind": involved.kind, "name": involved.name, "uid": involved.uid, "apiVersion": "v1"}
        if involved.namespace:
            reference["namespace"] = involved.namespace
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": involved.event_namespace},
            "involvedObject": reference,
            "reason": note.key.reason,
            "message": note.message,
            "type": note.key.type.value,
            "count": note.count,
            "firstTimestamp": _timestamp(note.first),
            "lastTimestamp": _timestamp(note.last),
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
        }


def event_name(involved: str) -> str:
    """A new one for an event on the object ``involved``; of a long name the end becomes a digest."""
    room = _NAME_LIMIT - _SUFFIX - 1
    if len(involved) > room:
        digest = hashlib.sha256(involved.encode()).hexdigest()[:_DIGEST]
        involved = f"{involved[: room - _DIGEST - 1].rstrip('.-')}-{digest}"
    return f"{involved}.{uuid.uuid4().hex[:_SUFFIX]}"


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
