"""Whose a lab is: the clone that brought it up, the process that holds it, and since when.

Names of labs are the machine's, whatever clone they come from: a lab of another clone is somebody else's.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.statedir import LabDir, base

CLONE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Owner:
    clone: str
    """Absolute path of its source."""
    pid: int
    since: float
    """Seconds since the epoch."""

    @property
    def is_this_clone(self) -> bool:
        return Path(self.clone) == CLONE

    def __str__(self) -> str:
        clone = "this clone" if self.is_this_clone else self.clone
        return f"of {clone}, pid {self.pid}, for {age(time.time() - self.since)}, since {_utc(self.since)}"


def age(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h`` or ``2 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S} UTC"


def note(directory: LabDir, pid: int) -> None:
    """This clone's process ``pid`` holds the lab from now on."""
    directory.owner.write_text(json.dumps(asdict(Owner(str(CLONE), pid, time.time()))))


def owner_of(directory: LabDir) -> Owner | None:
    """None if there is no such lab, or if it does not say."""
    try:
        return Owner(**json.loads(directory.owner.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def own_labs() -> list[str]:
    """The names of this clone's labs. One that does not say whose it is may be anybody's."""
    try:
        names = sorted(path.name for path in base().iterdir() if path.is_dir())
    except OSError:
        return []
    owners = ((name, owner_of(LabDir.of(name))) for name in names)
    return [name for name, owner in owners if owner is not None and owner.is_this_clone]


def free_name(wanted: str) -> str:
    """``wanted``, or with the next number behind it if a lab of another clone has that name."""
    names = itertools.chain((wanted,), (f"{wanted}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not _is_anothers(LabDir.of(name)))


def _is_anothers(directory: LabDir) -> bool:
    owner = owner_of(directory)
    return owner is not None and not owner.is_this_clone
