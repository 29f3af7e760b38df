"""The agent's next round now: its clock is moved on, as its window lets a test do.

What an operator has is the round itself, a minute at most, and a restart. Needs an agent that was started
with ``TEST_CLOCK``.
"""

from __future__ import annotations

import http.client
import time

from lab import messages
from lab.nodes import agent
from perf.drift.scene import Scene

TEST_CLOCK = {"TERWAY_TEST_CLOCK": "1"}
_ROUND = 61.0
"""Seconds that no loop of the agent sleeps longer than, but for what is done every few minutes."""
_PAUSE = 1.0
"""Seconds between two of them: rounds take time, and a clock that runs off ends leases."""
_TIMEOUT = 30.0


class Haste:
    """Its connection stands from construction, so that it works while the window's file is gone."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT)
        self._connection.sock = messages.connect(scene.root / agent.WINDOW, timeout=_TIMEOUT)
        self._last = 0.0

    def close(self) -> None:
        self._connection.close()

    def __call__(self) -> None:
        """At most once a second, however often it is called."""
        if time.monotonic() - self._last < _PAUSE:
            return
        self._connection.request("POST", f"/advance-clock?seconds={_ROUND}")
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200, "the agent was not started with its clock to be moved"
        # The loop that looks after the fast path sleeps by the machine's clock, and wakes for netfilter.
        self._scene.run("nft add table inet drift_wakes; nft delete table inet drift_wakes")
        self._last = time.monotonic()
