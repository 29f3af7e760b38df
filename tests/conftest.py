"""What holds for every test: the thread is afterwards in the namespace it was in before."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _stays_in_its_namespace() -> Iterator[None]:
    """A test that forgot to come back would take all later ones of the session with it."""
    before = os.stat("/proc/thread-self/ns/net").st_ino
    yield
    assert os.stat("/proc/thread-self/ns/net").st_ino == before, "left in another network namespace"
