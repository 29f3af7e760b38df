"""How much slower than a machine the one that runs the tests is: 1, or what its environment says.

An emulated one (tests.vm) is told that it may take its time, and floods it with less.
"""

from __future__ import annotations

import os

VARIABLE = "TESTS_SLOWER"
SLOWER = float(os.environ.get(VARIABLE, "1"))


def patience(seconds: float) -> float:
    """How long to wait for what takes ``seconds`` at most on a machine."""
    return seconds * SLOWER
