"""What the agent tells the API server: events and annotations, off every caller's path.

A bounded queue and one thread. What waits is merged: the same event counts up, patches of one pod become
one patch. While ADDs come thick and fast the thread holds back (``calm`` of the configuration) and then sends
all that has come: its mail is for people, and the interpreter is better spent on pods. While the server is
away the thread waits with growing pauses, and beyond the bound the oldest entry is dropped and counted.
Nothing here ever raises into a caller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from control.kube.backoff import Backoff
from control.kube.connection import Connection, KubernetesConfig, Refused
from control.kube.notes import EventNote, EventSeries, Note, NoteKey, patch_request
from control.model.errors import KubernetesError

log = logging.getLogger(__name__)

_DENIED = (401, 403)
_DENIALS_BORNE = 8
"""Tries of one entry that may be denied. An API server that has just started denies everybody until it has
read its roles, which takes it a second or two; these tries take ten at least."""
_FLUSH_SECONDS = 1.0
"""How long ``stop`` lets the thread send what still waits."""


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Since the start. ``merged`` went out as part of another entry; ``retried`` counts tries in vain."""

    sent: int = 0
    retried: int = 0
    merged: int = 0
    dropped: int = 0
    refused: int = 0


class Outbox:
    """``put`` from any thread; it takes a lock for microseconds."""

    def __init__(self, config: KubernetesConfig, connection: Connection) -> None:
        self._config = config
        self._connection = connection
        self._series = EventSeries(config.node)
        self._changed = threading.Condition()
        self._waiting: OrderedDict[NoteKey, Note] = OrderedDict()
        self._denials: dict[NoteKey, int] = {}
        self._counts = OutboxCounts()
        self._stopping = False
        self._put_at = 0.0
        self._due = 0
        """Entries that go before the next wait for calm."""
        self._backoff = Backoff(config.backoff_first, config.backoff_cap)
        self._thread = threading.Thread(target=self._run, name="kube-outbox", daemon=True)

    @property
    def counts(self) -> OutboxCounts:
        return self._counts

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, for a second at most, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_FLUSH_SECONDS)

    def put(self, note: Note) -> None:
        with self._changed:
            self._put_at = time.monotonic()
            known = self._waiting.get(note.key)
            if known is not None:
                self._waiting[note.key] = known.merged(note)
                self._count("merged")
                return
            self._waiting[note.key] = note
            self._trim()
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def _put_back(self, note: Note, *, last: bool) -> None:
        """To the head of the queue or to its end, under what has come for the same key meanwhile."""
        with self._changed:
            newer = self._waiting.pop(note.key, None)
            self._waiting[note.key] = note if newer is None else note.merged(newer)
            self._waiting.move_to_end(note.key, last=last)
            self._trim()

    def _trim(self) -> None:
        while len(self._waiting) > self._config.outbox_size:
            key, _ = self._waiting.popitem(last=False)
            self._denials.pop(key, None)
            self._count("dropped")

    def _run(self) -> None:
        while (note := self._next()) is not None:
            try:
                self._send(note)
                self._denials.pop(note.key, None)
                self._count("sent")
                self._backoff.reset()
            except Refused as exc:
                self._refused(note, exc)
            except KubernetesError as exc:
                log.debug("%s", exc)
                self._retry(note)
            except Exception:  # the thread's last barrier: one note less is better than none from here on
                log.exception("%s could not be sent", note.key)
                self._count("refused")

    def _next(self) -> Note | None:
        """The oldest entry; None when there is nothing left to do."""
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return None
                self._due = 0
                self._changed.wait()
            if self._due <= 0:
                self._await_calm()
                self._due = len(self._waiting)
            self._due -= 1
            return self._waiting.popitem(last=False)[1]

    def _await_calm(self) -> None:
        """Until nobody has put anything for ``calm`` seconds, but never longer than ``calm_limit``."""
        limit = time.monotonic() + self._config.calm_limit
        while not self._stopping:
            now = time.monotonic()
            until = min(self._put_at + self._config.calm, limit)
            if now >= until:
                return
            self._changed.wait(until - now)

    def _send(self, note: Note) -> None:
        if isinstance(note, EventNote):
            self._send_event(note)
        else:
            self._connection.call(patch_request(note), timeout=self._config.send_timeout)

    def _send_event(self, note: EventNote) -> None:
        """Count up the event that is there already; if the server has let it go, write a new one."""
        known = self._series.known(note)
        if known is not None:
            try:
                self._connection.call(known.request(note), timeout=self._config.send_timeout)
                self._series.sent(note, known.name)
                return
            except Refused as exc:
                if exc.status != 404:
                    raise
        request, name = self._series.create(note)
        self._connection.call(request, timeout=self._config.send_timeout)
        self._series.sent(note, name, anew=True)

    def _refused(self, note: Note, exc: Refused) -> None:
        denials = self._denials.pop(note.key, 0) + (exc.status in _DENIED)
        if not exc.lasting or (exc.status in _DENIED and denials < _DENIALS_BORNE):
            if denials:
                self._denials[note.key] = denials
            # What is denied may be so for good: it must not stand in the way of what is not.
            self._retry(note, last=denials > 0)
            return
        level = logging.DEBUG if exc.status == 404 else logging.WARNING
        log.log(level, "%s", exc)
        self._count("refused")

    def _retry(self, note: Note, *, last: bool = False) -> None:
        self._put_back(note, last=last)
        self._count("retried")
        with self._changed:
            if self._stopping:
                self._waiting.clear()  # the server is away and so is our time
            else:
                self._changed.wait_for(lambda: self._stopping, self._backoff.pause())

    def _count(self, name: str) -> None:
        with self._changed:
            self._counts = replace(self._counts, **{name: getattr(self._counts, name) + 1})
