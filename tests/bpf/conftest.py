"""One bench for the whole directory; no test leaves flows that another would meet."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from datapath import namespace
from tests.bpf.bench import Bench, bench
from tests.bpf.bpffs import mounted

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def _bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if os.geteuid():
        pytest.skip("BPF needs root")
    subprocess.run(["make", "-s", "-C", str(_ROOT / "bpf")], check=True)
    with mounted(tmp_path_factory.mktemp("bpf") / "fs") as pins, bench(pins) as made:
        yield made


@pytest.fixture
def node(_bench: Bench) -> Iterator[Bench]:
    """The bench, without flows on record before and after; the test runs in its namespace.

    Entered per test: a thread that stayed there would take every later test of the session with it.
    """
    with namespace.entered(_bench.netns):
        _bench.forget_flows()
        yield _bench
        _bench.forget_flows()
