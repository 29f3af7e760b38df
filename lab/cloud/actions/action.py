"""What an action is: a function from a call to its answer, and what the dispatcher must know about it."""

from __future__ import annotations

from collections.abc import Callable
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

    ``refused`` are parameters of the real API that would change the meaning of the call and that this cloud
    does not do: they get UnsupportedParameter. Any other parameter it does not know, it ignores, as ECS does.
    """

    name: str
    run: Callable[[ActionCall], Answer]
    writes: bool = False
    api: Api = Api.ECS
    refused: frozenset[str] = frozenset()
