"""What the agent tells the API server: events and annotations, off every caller's path.

One queue per object, one thread. What waits is merged: the same event counts up, patches of one pod become
one patch. While ADDs come thick and fast the thread holds back (``calm`` of the configuration) and then sends
all that has come: its mail is for people, and the interpreter is better spent on pods.

The objects take turns. One whose note fails waits by itself, with growing pauses; the others go on. Only if
a second object fails as well, and nothing goes through in between, is it the server that is away, and all
wait. A final refusal ends the note and is counted. Beyond the bound, the object with the most notes loses its
oldest. Nothing here ever raises into a caller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from control.kube.backoff import Backoff
from control.kube.connection import Connection, KubernetesConfig, Refused
from control.kube.notes import EventNote, EventSeries, Note, NoteKey, Subject, patch_request
from control.model.errors import KubernetesError

log = logging.getLogger(__name__)

_DENIED = (401, 403)
_DENIALS_BORNE = 8
"""Tries of one entry that may be denied. An API server that has just started denies everybody until it has
read its roles, which takes it a second or two; these tries take ten at least. One that has taken something
else meanwhile has read them, and means what it says."""
_TERMINATING = "NamespaceTerminating"
"""The cause of a 403 for whatever is made in a namespace that is being deleted."""
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


@dataclass(slots=True)
class _Queue:
    """What waits for one object."""

    backoff: Backoff
    notes: OrderedDict[NoteKey, Note] = field(default_factory=OrderedDict)
    not_before: float = 0.0
    """By ``time.monotonic``."""


@dataclass(slots=True)
class _Denial:
    times: int
    taken: int
    """Notes that the server had taken when it first denied this one."""


class Outbox:
    """``put`` from any thread; it takes a lock for microseconds."""

    def __init__(self, config: KubernetesConfig, connection: Connection) -> None:
        self._config = config
        self._connection = connection
        self._series = EventSeries(config.node)
        self._changed = threading.Condition()
        self._queues: OrderedDict[Subject, _Queue] = OrderedDict()
        """The one whose turn is next comes first. None is empty, but for the one that is being sent."""
        self._denials: dict[NoteKey, _Denial] = {}
        self._failing: set[Subject] = set()
        """Objects whose notes have failed since one went through, though not for what they say."""
        self._counts = OutboxCounts()
        self._stopping = False
        self._size = 0
        """Notes in all queues."""
        self._idle = False
        """The thread waits for something that may be sent, and not for calm."""
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
            queue = self._queue_of(note.key.subject)
            known = queue.notes.get(note.key)
            if known is not None:
                queue.notes[note.key] = known.merged(note)
                self._count("merged")
                return
            queue.notes[note.key] = note
            self._size += 1
            self._trim()
            if self._idle:
                self._changed.notify_all()

    def _queue_of(self, subject: Subject) -> _Queue:
        queue = self._queues.get(subject)
        if queue is None:
            backoff = Backoff(self._config.backoff_first, self._config.backoff_cap)
            queue = self._queues[subject] = _Queue(backoff)
        return queue

    def _put_back(self, note: Note) -> None:
        """To the head of its queue, under what has come for the same key meanwhile; others of it wait too."""
        with self._changed:
            queue = self._queue_of(note.key.subject)
            newer = queue.notes.pop(note.key, None)
            self._size += newer is None
            queue.notes[note.key] = note if newer is None else note.merged(newer)
            queue.notes.move_to_end(note.key, last=False)
            queue.not_before = time.monotonic() + queue.backoff.pause()
            self._trim()

    def _trim(self) -> None:
        """One object's flood takes nobody's place but its own."""
        while self._size > self._config.outbox_size:
            subject, queue = max(self._queues.items(), key=lambda item: len(item[1].notes))
            key, _ = queue.notes.popitem(last=False)
            self._size -= 1
            if not queue.notes:
                del self._queues[subject]
            self._denials.pop(key, None)
            self._count("dropped")

    def _run(self) -> None:
        while (note := self._next()) is not None:
            try:
                self._send(note)
                self._went_through(note, "sent")
            except Refused as exc:
                self._refused(note, exc)
            except KubernetesError as exc:
                log.debug("%s", exc)
                self._retry(note)
            except Exception:  # the thread's last barrier: one note less is better than none from here on
                log.exception("%s could not be sent", note.key)
                self._went_through(note, "refused")

    def _next(self) -> Note | None:
        """The oldest entry of the object whose turn it is; None when there is nothing left to do."""
        with self._changed:
            while True:
                if not self._queues:
                    if self._stopping:
                        return None
                    self._due = 0
                    self._rest(None)
                    continue
                if self._due <= 0:
                    self._await_calm()
                    self._due = self._size
                subject = self._whose_turn()
                if subject is not None:
                    return self._take(subject)
                earliest = min(queue.not_before for queue in self._queues.values())
                self._rest(max(0.0, earliest - time.monotonic()))

    def _rest(self, seconds: float | None) -> None:
        self._idle = True
        self._changed.wait(seconds)
        self._idle = False

    def _whose_turn(self) -> Subject | None:
        now = time.monotonic()
        ready = (s for s, queue in self._queues.items() if queue.not_before <= now or self._stopping)
        return next(ready, None)

    def _take(self, subject: Subject) -> Note:
        self._due -= 1
        queue = self._queues[subject]
        _, note = queue.notes.popitem(last=False)
        self._size -= 1
        self._queues.move_to_end(subject)
        if not queue.notes and not queue.not_before:
            del self._queues[subject]
        return note

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

    def _went_through(self, note: Note, count: str) -> None:
        """It was taken, or refused for good: either way the server is there and the note is done with."""
        with self._changed:
            self._denials.pop(note.key, None)
            self._failing.clear()
            self._backoff.reset()
            queue = self._queues.get(note.key.subject)
            if queue is not None:
                queue.backoff.reset()
                queue.not_before = 0.0
                if not queue.notes:
                    del self._queues[note.key.subject]
            self._count(count)

    def _refused(self, note: Note, exc: Refused) -> None:
        if not exc.lasting:
            log.debug("%s", exc)
            self._retry(note)
            return
        gone = exc.status == 404 or _TERMINATING in exc.causes
        if exc.status in _DENIED and not gone and self._may_be_new(note):
            self._put_back(note)
            self._count("retried")
            return
        log.log(logging.DEBUG if gone else logging.WARNING, "%s", exc)
        self._went_through(note, "refused")

    def _may_be_new(self, note: Note) -> bool:
        """Whether the server that denies ``note`` may have started just now."""
        denial = self._denials.setdefault(note.key, _Denial(0, self._counts.sent))
        denial.times += 1
        return not self._stopping and denial.times < _DENIALS_BORNE and denial.taken == self._counts.sent

    def _retry(self, note: Note) -> None:
        """The object waits; so do all if it is not the only one that fails."""
        with self._changed:
            if self._stopping:
                self._size = 0
                self._queues.clear()  # the server is away and so is our time
                return
            self._failing.add(note.key.subject)
        self._put_back(note)
        self._count("retried")
        if len(self._failing) > 1:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, self._backoff.pause())

    def _count(self, name: str) -> None:
        with self._changed:
            self._counts = replace(self._counts, **{name: getattr(self._counts, name) + 1})
