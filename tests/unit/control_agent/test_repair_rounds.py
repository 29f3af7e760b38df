"""When a round of repair is due."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from control.agent.dataplane.foreign_objects import ForeignObjects
from control.agent.reconcile import repair_rounds
from control.agent.reconcile.repair_rounds import BURST, PERIOD, RepairRounds
from control.model.clock import SystemClock
from control.process.timers import Timers
from datapath.acceleration.repair import Foreign, Round
from datapath.difference import Difference
from datapath.endpoint import Endpoint
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run


def test_a_round_is_due_by_the_clock_and_by_a_change() -> None:
    async def scenario() -> None:
        timers = Timers(SystemClock())
        rounds = RepairRounds(timers)
        waiting = asyncio.ensure_future(rounds.next())
        while not waiting.done():
            timers.advance(PERIOD)
            await asyncio.sleep(0)
        rounds.is_due()
        rounds.is_due()
        await rounds.next()
        waiting = asyncio.ensure_future(rounds.next())
        await asyncio.sleep(0)
        assert not waiting.done(), "several changes are one round"
        waiting.cancel()

    asyncio.run(scenario())


def test_a_hand_that_never_rests_makes_no_round_after_the_other() -> None:
    """By a clock that stands still: the sixth round waits for a share of time that does not come."""

    async def scenario() -> None:
        rounds = RepairRounds(Timers(SystemClock()), lambda: 0.0)
        slept: list[float] = []

        async def note(seconds: float) -> None:
            slept.append(seconds)

        original, repair_rounds.asyncio.sleep = asyncio.sleep, note  # type: ignore[attr-defined]
        try:
            for _ in range(BURST + 2):
                rounds.is_due()
                await rounds._told()
        finally:
            repair_rounds.asyncio.sleep = original  # type: ignore[attr-defined]
        assert slept[:BURST] == [repair_rounds.SOON] * BURST
        assert slept[BURST] > repair_rounds.SOON
        assert slept[BURST + 1] > slept[BURST]

    asyncio.run(scenario())


def test_programs_of_others_are_told_by_the_round_that_has_found_them() -> None:
    """Not a minute later, when they may be gone again."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        last, foreign = (
            Round(foreign=[Foreign("ENI 1", "qdisc tbf at the root")]),
            ForeignObjects(rig.kubernetes),
        )
        rig.recovery.reports.on_round = lambda: foreign.tell(last)
        await rig.recovery.repair()
        assert [one.reason for one in rig.kubernetes.events] == ["ForeignProgram"]
        assert foreign.there == {"qdisc tbf at the root at ENI 1"}

    run(scenario())


def test_two_who_want_a_repair_have_one_after_the_other() -> None:
    """The ledger's loop repairs what it has rebuilt while the round of ten seconds pauses."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        go_on, under_way = asyncio.Event(), 0
        seen: list[int] = []

        async def repair(endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
            nonlocal under_way
            under_way += 1
            assert under_way == 1
            seen.append(len(endpoints))
            await go_on.wait()
            under_way -= 1
            return ()

        rig.kernel.repair = repair  # type: ignore[method-assign]  # one that takes its time
        both = [asyncio.ensure_future(rig.recovery.repair()) for _ in range(2)]
        while not seen:
            await asyncio.sleep(0)
        await rig.add("web-1")
        go_on.set()
        await asyncio.gather(*both)
        assert seen == [1, 2], "who has waited knows the pods as of now"

    run(scenario())
