"""The pool under bursts, half answers and lost ENIs: nobody is refused too early or forgotten."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from control.agent.allocation.reservation import LedgerReservation
from control.agent.cni.attach import Attached
from control.aliyun.actions import Action
from control.ipam import transitions
from control.ipam.allocator import AllocationRequest
from control.model.errors import Cause, PoolExhausted, TerwayError
from control.model.records import Operation
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run


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


def test_an_add_that_comes_while_the_daemon_stops_is_told_so_at_once() -> None:
    """SIGTERM with an ADD in its pod lookup: it must not hold the end up for the queue's whole time-out."""

    async def scenario() -> None:
        rig = Rig()
        await rig.pool.close()
        async with asyncio.timeout(5):
            with pytest.raises(PoolExhausted, match="terwayd is stopping") as failure:
                await rig.add("web-0")
        assert failure.value.cause is Cause.BUSY
        assert rig.pool.stats().waiting == 0

    run(scenario())


def test_a_fault_of_ours_in_one_waiting_add_reaches_that_add_and_nobody_else() -> None:
    async def scenario() -> None:
        rig = Rig()
        gate = rig.cloud.hold(Action.CREATE_ENI)

        reserve = rig.pool._reserve

        def broken(request: AllocationRequest) -> LedgerReservation | None:
            reservation = reserve(request)
            if reservation is not None and request.pod.name == "unlucky":
                reservation.release()
                raise ValueError("nobody foresaw this")
            return reservation

        rig.pool._reserve = broken  # type: ignore[method-assign]
        first = asyncio.create_task(rig.add("unlucky"))
        second = asyncio.create_task(rig.add("web-0"))
        while rig.pool.stats().waiting < 2:
            await asyncio.sleep(0)
        gate.set()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(outcomes[0], ValueError)
        assert isinstance(outcomes[1], Attached)
        await rig.settle()

    run(scenario())


def test_who_hung_up_is_not_counted_among_those_that_are_told_no() -> None:
    async def scenario() -> None:
        rig = Rig()
        gate = rig.cloud.hold(Action.CREATE_ENI)
        rig.cloud.fail(Action.CREATE_ENI, "InvalidSecurityGroupId.NotFound")
        failed = rig.runner._failed
        first = asyncio.create_task(rig.add("web-0"))
        second = asyncio.create_task(rig.add("web-1"))
        while rig.pool.stats().waiting < 2:
            await asyncio.sleep(0)

        def hang_up_first(operation: Operation, exc: TerwayError) -> None:
            rig.pool._queue._waiters[-1].done.cancel()
            failed(operation, exc)

        rig.runner._failed = hang_up_first  # type: ignore[method-assign]  # in the very same step
        gate.set()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(outcomes[0], PoolExhausted)

    run(scenario())
