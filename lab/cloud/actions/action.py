"""What an action is: a function from a call to its answer, and what the dispatcher must know about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lab.cloud.actions.parameters import Parameters

if TYPE_CHECKING:
    from lab.cloud.state import CloudState

Answer = dict[str, object]
"""Without RequestId, which the dispatcher adds."""


class Api(StrEnum):
    """The APIs behind the one endpoint; the value is the Version that a call names."""

    ECS = "2014-05-26"
    VPC = "2016-04-28"


@dataclass(frozen=True, slots=True)
class ActionCall:
    """One authorized call, inside a transaction of ``state``."""

    state: CloudState
    parameters: Parameters
    partial: int | None = None
    """A fault's bound on how many addresses are assigned; None is no fault."""


@dataclass(frozen=True, slots=True)
class Action:
    """``run`` raises an ApiError and changes nothing, or answers.

    ``takes`` are the parameters that it reads, by their names without index and field. Any other gets
    UnsupportedParameter, also one that ECS would ignore: it is either a typing mistake or a wish that would
    be lost without a word.
    """

    name: str
    run: Callable[[ActionCall], Answer]
    takes: frozenset[str]
    writes: bool = False
    api: Api = Api.ECS
    one_at_a_time: str = "NetworkInterfaceId"
    """The parameter that names what a write changes: two writes to one of them at once are a conflict."""

    def unsupported(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that a call may not have, in order."""
        common = {"RegionId", "ClientToken"} if self.writes else {"RegionId"}
        return sorted(set(names) - self.takes - common)
