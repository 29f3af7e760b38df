"""Labs for tests: each in a state directory of its own, so that runs beside each other do not meet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.client import Lab, take_down
from lab.spec import LabSpec

_NUMBERS = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if "tests/netns/lab" in str(item.path):
            item.add_marker(pytest.mark.skip(reason="a lab makes namespaces: root is needed"))


def fresh_name() -> str:
    """A name that no other lab of this machine has."""
    return f"t{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture(scope="session", autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("labs")
    before = os.environ.get("TERWAY_LAB_DIR")
    os.environ["TERWAY_LAB_DIR"] = str(path)
    yield path
    if before is None:
        del os.environ["TERWAY_LAB_DIR"]
    else:
        os.environ["TERWAY_LAB_DIR"] = before


@pytest.fixture
def name() -> Iterator[str]:
    """A lab's name; whatever runs under it at the end is taken down."""
    chosen = fresh_name()
    yield chosen
    take_down(chosen)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes, shared by the tests of a module: leave it as you found it."""
    with Lab.start(LabSpec(), name=fresh_name()) as running:
        yield running
