from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.control_kube.cluster import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        made.close()
