"""A node's namespace without links, and its guard. Needs root and the program nft, which plays the others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from datapath import namespace
from datapath.enforcement.guard import Guard
from tests.netns.datapath.conftest import machine_untouched

__all__ = ["machine_untouched"]


class Node:
    """Made by the fixture ``node``."""

    def __init__(self, netns: int) -> None:
        self.netns = netns
        self.guard = Guard(netns)

    def nft(self, *words: str) -> str:
        """What the program says. Raises CalledProcessError."""
        with namespace.entered(self.netns):
            done = subprocess.run(["nft", *words], text=True, capture_output=True, check=True)
        return done.stdout


@pytest.fixture
def node() -> Iterator[Node]:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    made = Node(namespace.new())
    yield made
    made.guard.close()
    os.close(made.netns)
