"""The planted faults: each can still be planted, and with --long each is found."""

from __future__ import annotations

import inspect
import secrets

import pytest

from tests.soak import planted, step
from tests.soak.planted import MINUTES, ROOT, Outcome, Planted
from tests.soak.run import VERBS
from tests.soak.step import QUIET, Step

AT_LEAST = 5

FAILED = """#12 8 s  quiet [0.1 s]: in order
FAILED at step 41, 92 s, seed 5. The last steps:
  #40 91 s  add node=0 slot=1
What does not hold:
  nothing is left over: kernel of rough: rule from 10.0.16.7 is too much
Steps and the agents' logs are in /tmp/x
"""


def test_there_are_enough() -> None:
    assert len(planted.names()) >= AT_LEAST


@pytest.mark.parametrize("name", planted.names())
def test_it_can_be_planted(name: str) -> None:
    planted.apply(name, ROOT, "--check")
    fault = planted.read(name)
    assert fault.why
    assert all(fault.found_by)


@pytest.mark.parametrize("name", planted.names())
def test_its_steps_can_be_taken(name: str) -> None:
    steps = step.read(planted.PATCHES / f"{name}.jsonl")
    assert steps[-1] == Step(QUIET)
    for one in steps:
        if one.verb != QUIET:
            inspect.signature(VERBS[one.verb]).bind(None, **one.values)


def test_what_a_run_says_of_a_fault() -> None:
    rule = Planted("rule", "a rule stays", ("rule from",))
    other = Planted("leak", "descriptors leak", ("descriptors",))
    told = "nothing is left over: kernel of rough: rule from 10.0.16.7 is too much"
    assert planted.outcome(rule, 5, FAILED) == Outcome(True, 5, 41, 92, told)
    assert not planted.outcome(other, 5, FAILED).found, "the run failed for another reason"
    assert not planted.outcome(rule, 5, "OK: 200 steps and 20 quiet moments in 600 s, seed 5").found


@pytest.mark.long
@pytest.mark.parametrize("name", planted.names())
def test_it_is_found(name: str) -> None:
    came = planted.run(name, seed=secrets.randbelow(1_000_000), minutes=MINUTES)
    assert came.found, came


@pytest.mark.long
@pytest.mark.parametrize("name", planted.names())
def test_its_steps_find_it(name: str) -> None:
    came = planted.run(name, seed=1, shortest=True)
    assert came.found, came
