"""What holds for the whole suite and for every test.

The suite ends as one that was interrupted with Ctrl-C, also when it is told to end by a signal: fixtures are
torn down then, labs are taken down, and the last line still counts what was run. And after each test the
thread is in the network namespace it was in before.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="tests marked long too, which take many minutes each"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="takes many minutes: --long"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes many minutes; only with --long")
    runner = os.getpid()

    def interrupted(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == runner:
            raise KeyboardInterrupt
        # A child that a test has forked dies of the signal, as it would without us.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    # Shells start their background jobs with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _stays_in_its_namespace() -> Iterator[None]:
    """A test that forgot to come back would take all later ones of the session with it."""
    before = os.stat("/proc/thread-self/ns/net").st_ino
    yield
    assert os.stat("/proc/thread-self/ns/net").st_ino == before, "left in another network namespace"


@pytest.fixture
def neighbour_table() -> Iterator[None]:
    """One test at a time, of all workers, that tries to fill it.

    The kernel has one table for all namespaces: 700 entries in one leave 300 to another (gc_thresh3).
    """
    with Path(tempfile.gettempdir(), "terway-tests-neighbour-table").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
