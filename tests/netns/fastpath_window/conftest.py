"""A node with the fast path on, and a window of it on a socket, new for each test. Needs root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.datapath.conftest import machine_untouched
from tests.netns.fastpath.conftest import _compiled, node
from tests.netns.fastpath.node import FastNode
from tests.netns.fastpath_window.opened import Opened, opened

__all__ = ["_compiled", "machine_untouched", "node"]


@pytest.fixture
def window(node: FastNode, tmp_path: Path) -> Iterator[Opened]:
    with opened(node, tmp_path / "window.socket") as made:
        yield made
