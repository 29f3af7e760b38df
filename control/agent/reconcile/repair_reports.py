"""What is said of repairs: each in the log and in a metric by its kind, and an event once for a cause.

A cause is a hand at an object: one that undoes it again and again is one cause until it has rested for ten
minutes, and another object is another cause. Causes of one kind share an event a minute: who flushes a
routing table, or rewrites every new link, is told of once with how many objects there were. What others have
done and no repair undoes is told by an event of its own, once until it has been away for ten minutes.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from control.model.pod import EventType, Kubernetes
from datapath.difference import Difference, ObjectKind

log = logging.getLogger(__name__)

PEACE = 600.0
"""Seconds without a repair of an object, after which the next one is another cause."""
SPACING = 60.0
"""Seconds between two events of one kind; the causes that come meanwhile wait for the next one."""
REMEMBERED = 4096
"""Objects; of more, those that were put back last."""
SHOWN = 32
"""The last repairs, for terway-cli."""


def _nothing(*_: ObjectKind) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Repaired:
    """``when``: seconds of the epoch, by the agent's clock."""

    when: float
    one: Difference


class RepairReports:
    """``now`` in seconds. ``on_repair`` hears of each by its kind, ``on_round`` that one has ended."""

    def __init__(self, kubernetes: Kubernetes, now: Callable[[], float]) -> None:
        self._kubernetes = kubernetes
        self._now = now
        self._seen: dict[str, float] = {}
        """When each object was put back last, by its words, in the order of these times."""
        self._untold: dict[ObjectKind, list[Difference]] = {}
        self._told_at: dict[ObjectKind, float] = {}
        self.counts: Counter[ObjectKind] = Counter()
        """Repairs since the start."""
        self.recent: deque[Repaired] = deque(maxlen=SHOWN)
        self.foreign: tuple[Difference, ...] = ()
        """What is there of others' and is left."""
        self.foreign_seen: dict[str, float] = {}
        """When each was there last, by its words, in the order of these times."""
        self.on_repair: Callable[[ObjectKind], None] = _nothing
        self.on_round: Callable[[], None] = _nothing

    def mended(self, done: Sequence[Difference], *, events: bool = True, at_once: bool = False) -> None:
        """To be called after each round, also if it found nothing: causes may wait for their event.

        ``events`` False: at the start, when what was out of order may be what a reboot has left. ``at_once``:
        what was put back in the moment it was changed. Of that only settings are told: systemd-udevd rewrites
        each new link, which is in the log and no more. What is told of to nobody makes no cause a known one.
        """
        now = self._now()
        for one in done:
            if at_once:
                log.info("put back %s: %s", one.what, one.found)
            else:
                log.warning("repaired %s: %s", one.what, one.found)
            self.counts[one.kind] += 1
            self.recent.append(Repaired(now, one))
            self.on_repair(one.kind)
            is_told = events and (not at_once or one.kind is ObjectKind.SYSCTL)
            if is_told and _is_news(self._seen, one.what, now):
                self._untold.setdefault(one.kind, []).append(one)
        for kind in [k for k in self._untold if now - self._told_at.get(k, -SPACING) >= SPACING]:
            self._told_at[kind] = now
            self._tell(kind, self._untold.pop(kind))

    def left(self, foreign: Iterable[Difference]) -> None:
        """What is there and is left, all of it."""
        now = self._now()
        before, self.foreign = {one.what for one in self.foreign}, tuple(foreign)
        there = {one.what: one for one in self.foreign}
        for what, one in there.items():
            news = _is_news(self.foreign_seen, what, now)
            if what not in before and news:
                text = f"{what}: {one.found}"
                log.warning("%s", text)
                self._kubernetes.event(
                    None, EventType.WARNING, "ForeignObject", text, topic=f"foreign {what}"
                )
        for what in before - there.keys():
            log.info("%s: no more", what)
        self.on_round()

    def _tell(self, kind: ObjectKind, causes: Sequence[Difference]) -> None:
        first, others = causes[0], len({one.what for one in causes}) - 1
        more = f" (and {others} more of kind {kind})" if others else f" (kind {kind})"
        self._kubernetes.event(
            None,
            EventType.WARNING,
            "NodeRepaired",
            f"terwayd put back {first.what}{more}: {first.found}. Something on this node changes what "
            "terwayd has set; `terway-cli repairs` and its log name each object",
            topic=f"repair {kind}",
        )


def _is_news(seen: dict[str, float], what: str, now: float) -> bool:
    """Whether it was away for ``PEACE``, or never there. It is remembered as of ``now``, last in ``seen``."""
    last = seen.pop(what, -PEACE)
    seen[what] = now
    if len(seen) > REMEMBERED:
        del seen[next(iter(seen))]
    return now - last >= PEACE
