"""The steps of a seed: the same ones each time, all of them known, and every kind of them in a long run."""

from __future__ import annotations

import inspect
from itertools import islice
from pathlib import Path

import pytest

from control.agent.state.faults import FaultPoint
from control.aliyun.settings import CloudSettings
from tests.soak import plan, step
from tests.soak.foreign import KINDS
from tests.soak.run import VERBS
from tests.soak.step import QUIET, Step

MANY = 8000
TIMEOUT = CloudSettings("cn-hangzhou").read_timeout


def _steps(seed: int, count: int = MANY) -> list[Step]:
    return list(islice(plan.steps(seed), count))


def test_a_seed_gives_the_same_steps() -> None:
    assert _steps(7) == _steps(7)
    assert _steps(7) != _steps(8)


def test_every_verb_is_taken_and_takes_what_the_plan_gives_it() -> None:
    steps = _steps(1)
    assert {one.verb for one in steps} == {*VERBS, QUIET}
    for one in steps:
        if one.verb != QUIET:
            inspect.signature(VERBS[one.verb]).bind(None, **one.values)


def test_every_kind_of_trouble_comes() -> None:
    def values(verb: str, name: str) -> set[object]:
        return {one.values[name] for one in steps if one.verb == verb and name in one.values}

    steps = _steps(5)
    assert values("cloud_fault", "code") == {*plan.CODES}
    assert values("cloud_fault", "drop") == {"before", "after"}
    distorted = {one.values["action"] for one in steps if "distortion" in one.values}
    assert distorted == {*plan.LOOKS, *plan.ASSIGNMENTS, "CreateNetworkInterface"}
    assert values("cloud_fault", "distortion") == {*plan.DISTORTIONS}
    assert values("cloud_fault", "partial")
    assert max(map(float, map(str, values("cloud_fault", "latency")))) > TIMEOUT, "a call times out"
    assert values("metadata_fault", "status") == {0, 404, 503}
    assert values("lag", "view") == {*plan.VIEWS}
    assert values("alter", "what") == {*plan.KERNEL}
    assert values("lose_ledger", "how") == {*plan.LEDGERS}
    assert values("lose_ledger", "hand") == {"", *plan.MARKS}
    assert values("add_foreign", "what") == {*plan.FOREIGN} == {*KINDS}
    assert values("add_foreign", "stays") == {True, False}
    assert values("node_address", "what") == {*plan.NODE_ADDRESSES}
    assert values("kill_agent_at", "point") == {*plan.POINTS} == {point.value for point in FaultPoint}
    assert values("remake", "late") == {"after", "during", "never"}
    assert values("clock", "who") == {"agent", "cloud", "both"}
    assert values("detach_eni", "again") == {True, False}


def test_a_quiet_moment_comes_again_and_again() -> None:
    since = 0
    for one in _steps(2):
        since = 0 if one.verb == QUIET else since + 1
        assert since <= 6 + 10, "weather and actions of one episode"


def test_what_ends_an_agent_is_for_the_rough_node() -> None:
    ends = {"kill_agent", "kill_agent_at", "lose_ledger", "disk_full"}
    assert {one.values["node"] for one in _steps(3) if one.verb in ends} == {plan.ROUGH}


def test_steps_are_written_and_read(tmp_path: Path) -> None:
    steps = _steps(4, 200)
    step.write(tmp_path / "failed" / "steps.jsonl", steps)
    assert step.read(tmp_path / "failed" / "steps.jsonl") == steps


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="is no step"):
        step.decode('{"node": 1}')
