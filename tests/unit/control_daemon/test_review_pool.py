"""The pool under bursts, half answers and lost ENIs: nobody is refused too early or forgotten."""

from __future__ import annotations

import asyncio

from tests.unit.control_daemon.rig import Rig
from tests.unit.control_daemon.test_use_cases import run


def test_a_burst_within_capacity_waits_for_the_room_of_enis_that_are_being_made() -> None:
    """On a cold node every ENI slot is under creation at once: their room is found, not missing."""

    async def scenario() -> None:
        rig = Rig()
        await asyncio.gather(*(rig.add(f"web-{i}") for i in range(45)))
        await rig.settle()
        assert rig.pool.stats().in_use == rig.pool.stats().capacity == 45
        rig.assert_agree()

    run(scenario())
