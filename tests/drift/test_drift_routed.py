"""Whatever a foreign hand changes of the agent's is as it was again, and traffic flows: by routes alone.

By default a sample, whose seed is printed and which TERWAY_DRIFT_SEED repeats; ``--long`` takes all. What is
not put back yet is named in ``not_mended``, and tried all the same: a name that should go fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perf.drift.catalogue import CATALOGUE
from perf.drift.stage import Stage
from tests.drift.choice import names
from tests.drift.judged import put_to_the_test
from tests.drift.stage import staged

BPF = "off"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged(BPF) as made:
        yield made


@pytest.mark.parametrize("name", names(BPF))
def test_drift(stage: Stage, name: str) -> None:
    put_to_the_test(stage, CATALOGUE[name])
