"""One VPC for the whole directory, back at its base view for each test. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.netns.fabric.net import Net, build

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """The object under test is that of the sources."""
    if os.geteuid():
        pytest.skip("network namespaces and BPF need root")
    subprocess.run(["make", "-s", "-C", str(_ROOT / "bpf")], check=True)


@pytest.fixture(scope="session")
def _vpc(_compiled: None) -> Iterator[Net]:
    with ExitStack() as stack:
        yield build(stack)


@pytest.fixture
def net(_vpc: Net) -> Net:
    _vpc.reset()
    return _vpc
