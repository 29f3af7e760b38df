"""What is said of repairs: each in the log and in a metric by its kind, and an event once for a cause.

A cause is a kind of object: who flushes a routing table has undone all routes of it, and does so again. Its
event comes again when there was peace for ten minutes. What others have done and no repair undoes is told by
an event of its own, once for as long as it is there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from control.model.pod import EventType, Kubernetes
from datapath.endpoint import Difference

log = logging.getLogger(__name__)

PEACE = 600.0
"""Seconds without a repair of a kind, after which the next one is another cause."""


def _nothing(*_: str) -> None:
    pass


class RepairReports:
    """``now`` in seconds. ``on_repair`` hears of each by its kind, ``on_round`` that one has ended."""

    def __init__(self, kubernetes: Kubernetes, now: Callable[[], float]) -> None:
        self._kubernetes = kubernetes
        self._now = now
        self._last: dict[str, float] = {}
        self._foreign: frozenset[str] = frozenset()
        self.on_repair: Callable[[str], None] = _nothing
        self.on_round: Callable[[], None] = _nothing

    def mended(self, done: Sequence[Difference], *, events: bool = True, at_once: bool = False) -> None:
        """``events`` False: at the start, when what was out of order may be what a reboot has left.

        ``at_once``: settings that were put back in the moment they were changed. systemd-udevd changes the
        reverse path filter of each new link: that is in the log and no more.
        """
        for one in done:
            if at_once:
                log.info("put back %s: %s", one.what, one.found)
            else:
                log.warning("repaired %s: %s", one.what, one.found)
            self.on_repair(kind_of(one))
        if at_once:
            done = [one for one in done if kind_of(one) == "sysctl"]
        now, kinds = self._now(), Counter(map(kind_of, done))
        for kind, count in kinds.items():
            quiet = now - self._last.get(kind, -PEACE) >= PEACE
            self._last[kind] = now
            if quiet and events:
                first = next(one for one in done if kind_of(one) == kind)
                more = f" (and {count - 1} more)" if count > 1 else ""
                self._kubernetes.event(
                    None,
                    EventType.WARNING,
                    "NodeRepaired",
                    f"terwayd put back {first.what}{more}: {first.found}. Something on this node changes "
                    "what terwayd has set; its log names each object",
                    topic=f"repair {kind}",
                )

    def left(self, foreign: Iterable[Difference]) -> None:
        """What is there and is left, all of it."""
        there = {one.what: one for one in foreign}
        for what in there.keys() - self._foreign:
            text = f"{what}: {there[what].found}"
            log.warning("%s", text)
            self._kubernetes.event(None, EventType.WARNING, "ForeignObject", text, topic=f"foreign {what}")
        for what in self._foreign - there.keys():
            log.info("%s: no more", what)
        self._foreign = frozenset(there)
        self.on_round()


def kind_of(one: Difference) -> str:
    """The first word of what it is: link, address, route, rule, neighbour, sysctl, nft, fast (path), ..."""
    return one.what.split(" ", 1)[0].lower()
