"""A node with the fast path on, new for each test, or for each file that asks for it. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.datapath.conftest import machine_untouched
from tests.netns.fastpath.node import FastNode, asks_conntrack, fast_node

__all__ = ["machine_untouched"]

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    if os.geteuid():
        pytest.skip("network namespaces and BPF need root")
    subprocess.run(["make", "-s", "-C", str(_ROOT / "bpf")], check=True)


BOTH_WAYS = [pytest.param("conntrack", marks=asks_conntrack), "records"]
"""Of knowing whose a flow is: by asking conntrack, and as on a kernel that cannot be asked."""


@pytest.fixture(params=BOTH_WAYS)
def node(tmp_path: Path, _compiled: None, request: pytest.FixtureRequest) -> Iterator[FastNode]:
    with fast_node(tmp_path / "bpf", conntrack=request.param == "conntrack") as made:
        yield made


@pytest.fixture(scope="module", params=BOTH_WAYS)
def lasting_node(
    tmp_path_factory: pytest.TempPathFactory, _compiled: None, request: pytest.FixtureRequest
) -> Iterator[FastNode]:
    """One for a whole file, since the kernel takes longer to check the programs than a test to use them.

    A file that wants it has a ``node`` of its own, which calls ``FastNode.clear`` after each test.
    """
    with fast_node(tmp_path_factory.mktemp("bpf"), conntrack=request.param == "conntrack") as made:
        yield made
