"""Where alterations are tried one after the other: on one node for as long as it is whole."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from lab.client import Lab
from lab.messages import LabError
from lab.sandbox import LabPod
from perf.drift.scene import Scene
from perf.drift.traffic import Traffic
from perf.drift.trial import answered

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Setting:
    """What every node of a run is: ``ip_stack``, ``-bpf``, and more of the agent's environment."""

    stack: str
    bpf: str
    env: tuple[tuple[str, str], ...] = ()
    patience: float = 60.0
    """Seconds in which the pods of a new node must talk."""


@dataclass(frozen=True, slots=True)
class Played:
    scene: Scene
    traffic: Traffic


class Stage:
    """``far`` must be answering. A node is made when it is first asked for, or the last one was dropped."""

    def __init__(self, lab: Lab, far: LabPod, setting: Setting) -> None:
        self._lab, self._far, self._setting = lab, far, setting
        self._played: Played | None = None

    def play(self) -> Played:
        """Raises LabError, or CniError of one of its pods."""
        if self._played is None:
            name, wanted = f"hurt{next(_numbers)}", self._setting
            env = dict(wanted.env)
            scene = Scene(self._lab, name, self._far, stack=wanted.stack, bpf=wanted.bpf, env=env)
            self._played = Played(scene, Traffic(scene))
            if not answered(self._played.traffic, limit=wanted.patience):
                self.drop()
                raise LabError(f"node {name}: its pods do not talk")
        return self._played

    def drop(self) -> None:
        """The node is not whole any more, or not needed."""
        if self._played is not None:
            played, self._played = self._played, None
            played.traffic.close()
            played.scene.close()
