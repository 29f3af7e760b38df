"""One alteration: the object as it was, altered, and watched until it is as it was again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from datapath.errors import KernelError
from lab.messages import LabError
from perf.drift.item import Item
from perf.drift.scene import Scene
from perf.drift.traffic import PATIENCE, Loss, Traffic, silent

_POLL = 0.05
LIMIT = 70.0
"""Seconds after which an object counts as not put back: a round is ten, some wait for a second one, and
a busy machine takes time."""
RESTART_LIMIT = 15.0
_SAYS = (" put back ", " repaired ", "bound anew", "written anew", "is installed, with mode")
"""In the agent's log when it has put something right, which may be before anybody can look."""
_SAID_LIMIT = 10.0
SETTLED = 3
"""Looks alike in a row before anything is altered: the kernel is still at work on what is new."""


class NotAltered(Exception):
    """The alteration cannot be seen, so that nothing would be shown by what follows."""


@dataclass(frozen=True, slots=True)
class Result:
    """``seconds`` until the object was as it was, and ``flows`` until every flow was answered as well.

    None: not within the limit. ``after_restart``: seconds from a restart of the agent that came then.
    """

    item: Item
    seconds: float | None
    flows: float | None
    after_restart: float | None
    losses: Mapping[str, Loss]

    @property
    def whole(self) -> bool:
        """The scene may serve again."""
        return self.flows is not None and not self.item.spoils


def measure(scene: Scene, item: Item, traffic: Traffic, *, limit: float = LIMIT) -> Result:
    """Raises NotAltered, and what an alteration raises that cannot be done."""
    before = settled(scene, item)
    began = time.monotonic()
    alter(scene, item, before)
    seconds = watched(scene, item, before, limit=limit)
    left = limit - (time.monotonic() - began)
    flows = None
    if seconds is not None and answered(traffic, limit=max(left, PATIENCE)):
        flows = time.monotonic() - began
    ended = time.monotonic()
    after = _restarted(scene, item, before) if seconds is None else None
    time.sleep(PATIENCE)
    return Result(item, seconds, flows, after, traffic.losses(began, ended))


def answered(traffic: Traffic, *, limit: float, meanwhile: Callable[[], None] | None = None) -> bool:
    """Whether every flow is answered within ``limit`` from now on."""
    began = time.monotonic()
    while silent(traffic.answers_since(began)):
        if time.monotonic() - began > limit:
            return False
        if meanwhile is not None:
            meanwhile()
        time.sleep(_POLL)
    return True


def settled(scene: Scene, item: Item) -> str:
    """How the object looks, once it stays so."""
    seen = [look(scene, item)]
    while len(seen) < SETTLED:
        time.sleep(_POLL)
        now = look(scene, item)
        seen = [*seen, now] if now == seen[-1] else [now]
    return seen[-1]


def alter(scene: Scene, item: Item, before: str) -> None:
    """Raises NotAltered if it can neither be seen nor has the agent said that it put something back."""
    said = len(scene.node.agent_log())
    item.alter(scene)
    if look(scene, item) != before:
        return
    began = time.monotonic()
    while not any(words in scene.node.agent_log()[said:] for words in _SAYS):
        if time.monotonic() - began > _SAID_LIMIT:
            raise NotAltered(f"{item.name}: after the alteration it looks as before: {before!r}")
        time.sleep(_POLL)


def watched(
    scene: Scene, item: Item, before: str, *, limit: float, meanwhile: Callable[[], None] | None = None
) -> float | None:
    """Seconds until it looks as ``before``; None if not within ``limit``. ``meanwhile`` before each look."""
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < limit:
        if meanwhile is not None:
            meanwhile()
        if look(scene, item) == before:
            return elapsed
        time.sleep(_POLL)
    return None


def look(scene: Scene, item: Item) -> str:
    """What cannot be looked at, as its pin or its directory is gone, looks like the reason."""
    try:
        return item.look(scene)
    except (KernelError, OSError, AssertionError) as exc:
        return f"{type(exc).__name__}: {exc}"


def _restarted(scene: Scene, item: Item, before: str) -> float | None:
    try:
        scene.restart_agent()
    except LabError:
        return None
    return watched(scene, item, before, limit=RESTART_LIMIT)
