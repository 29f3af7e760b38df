"""The pool under bursts, half answers and lost ENIs: nobody is refused too early or forgotten."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from control.aliyun.actions import Action
from control.ipam import transitions
from control.model.errors import Cause, PoolExhausted
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


def test_ipv4_addresses_that_lack_their_ipv6_get_it_though_the_eni_is_full() -> None:
    """AssignIpv6Addresses was refused once: the other family's addresses must not be stranded for ever."""

    async def scenario() -> None:
        rig = Rig(dual=True)
        for i in range(10):
            await rig.add(f"web-{i}")
        await rig.settle()
        (eni,) = rig.journal.book.enis.values()
        assert sum(1 for _ in rig.journal.book.of_eni(eni.eni_id)) < 30
        rig.cloud.fail(Action.ASSIGN_IPV6, "InvalidOperation.Ipv6CountExceeded", times=9)
        for i in range(30):
            with contextlib.suppress(PoolExhausted):
                await rig.add(f"more-{i}")
            rig.clock.advance(130)
        rig.cloud._faults.clear()
        rig.clock.advance(130)
        for i in range(100, 145 - rig.pool.stats().in_use):
            await rig.add(f"last-{i}")
        await rig.settle()
        assert rig.pool.stats().in_use == 45
        rig.assert_agree()

    run(scenario())


def test_free_addresses_of_a_frozen_eni_are_told_as_frozen_not_as_cooling() -> None:
    """The free count lied because what cools counted as available: aws 2896. Here: an IndexError."""

    async def scenario() -> None:
        rig = Rig()
        await asyncio.gather(*(rig.add(f"web-{i}") for i in range(40)))
        await rig.settle()
        now = rig.clock.now()
        for eni in list(rig.journal.book.enis.values()):
            rig.journal.record(transitions.freeze_eni(eni, "metadata does not show it", now))
        stats = rig.pool.stats()
        assert (stats.idle, stats.cooling, stats.frozen) == (0, 0, 5)
        with pytest.raises(PoolExhausted, match="5 frozen") as failure:
            await rig.add("more")
        assert failure.value.cause is Cause.POOL_LIMIT
        assert rig.pool.stats().waiting == 0

    run(scenario())
