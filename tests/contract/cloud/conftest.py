from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.cloud.bench import Bench, FakeBench, LabBench


@pytest.fixture(params=["fake", "real"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each test of the contract runs against both. A module may override this with one of them."""
    made: FakeBench | LabBench = FakeBench() if request.param == "fake" else LabBench()
    yield made
    made.stop()
