"""One round of repair: each object by itself, so that a broken one keeps no other from being put right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from datapath.difference import Difference
from datapath.errors import KernelError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something of somebody else's at a device of ours: it is told, and left."""

    where: str
    what: str


@dataclass(slots=True)
class Round:
    """``done``: what was otherwise and is put right. ``refused``: why an object could not be, by its name."""

    done: list[Difference] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    foreign: list[Foreign] = field(default_factory=list)

    def each(self, what: str, step: Callable[[], Iterable[Difference]]) -> None:
        """Take the step for the object ``what``; what it says it has done counts."""
        try:
            self.done += step()
        except (KernelError, OSError) as exc:
            log.warning("%s could not be mended; the next round tries again: %s", what, exc)
            self.refused[what] = str(exc)
