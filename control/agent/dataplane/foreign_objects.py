"""What others have at the fast path's devices, and what of it could not be put right: each is told once.

The last round of repair says both. An event is for a cause that was not there at the round before; a metric
and ``terway-cli fastpath`` say what there is now.
"""

from __future__ import annotations

import logging

from control.model.pod import EventType, Kubernetes
from datapath.acceleration.repair import Round

log = logging.getLogger(__name__)

_REMEDY = "it was left as it is: packets of pods may take its way; remove it if nobody needs it"


class ForeignObjects:
    """``tell`` after each round."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self.there: frozenset[str] = frozenset()
        """What is others', with its place."""
        self.refused: frozenset[str] = frozenset()
        """Names of objects that could not be mended."""

    def tell(self, last: Round) -> None:
        there = frozenset(f"{one.what} at {one.where}" for one in last.foreign)
        for found in sorted(there - self.there):
            self._say("ForeignProgram", f"somebody else has put a {found}; {_REMEDY}")
        for gone in sorted(self.there - there):
            log.info("gone again: %s", gone)
        refused = frozenset(last.refused)
        for name in sorted(refused - self.refused):
            self._say("FastPathNotMended", f"{name} is not as it should be: {last.refused[name]}")
        self.there, self.refused = there, refused

    def _say(self, reason: str, message: str) -> None:
        log.warning("%s", message)
        self._kubernetes.event(None, EventType.WARNING, reason, message)
