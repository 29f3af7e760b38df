"""Numbers that are none: not a number, endless, negative, out of every range. A lab must not take them."""

from __future__ import annotations

import math

import pytest

from lab.cli.fields import Field, read
from lab.cli.values import WrongWordError
from lab.clock import LabClock
from lab.cloud.faults import Fault, MetadataFault
from tests.soak.__main__ import parser


@pytest.mark.parametrize("step", [math.nan, math.inf, 1e99, -1.0])
def test_a_clock_stays_where_it_was(step: float) -> None:
    clock = LabClock()
    before = clock.now()
    with pytest.raises(ValueError, match="seconds from 0 to"):
        clock.advance(step)
    assert before <= clock.now() < before + 3600


@pytest.mark.parametrize("kind", [Fault, MetadataFault])
@pytest.mark.parametrize(
    "field",
    [{"latency": math.nan}, {"latency": -1.0}, {"latency": math.inf}, {"status": 99999}, {"count": 0}],
)
def test_a_fault_that_cannot_happen_is_not_armed(
    kind: type[Fault | MetadataFault], field: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(field))}="):
        kind(**field)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["actoin=x", "drop=x", "drop"])
def test_a_wrong_word_is_an_error_of_usage(word: str) -> None:
    with pytest.raises(WrongWordError):
        read([word], {"drop": Field("", ("before",))}, "a fault")


@pytest.mark.parametrize("option", [["--minutes", "0"], ["--minutes", "nan"], ["--steps", "-1"]])
def test_a_soak_that_would_prove_nothing_is_refused(option: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(option)
    assert ended.value.code == 2
