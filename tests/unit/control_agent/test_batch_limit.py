"""A call for several addresses that is refused: a pod needs one, and may have it."""

from __future__ import annotations

import asyncio

import pytest

from control.aliyun.actions import Action
from control.model.errors import Cause, PoolExhausted
from tests.unit.control_agent.rig import NODES_VSWITCH, PODS_VSWITCH, Rig
from tests.unit.control_agent.test_use_cases import run


def _fill(rig: Rig, leaving: int) -> None:
    assert rig.account is not None
    rig.account.fill(PODS_VSWITCH, leaving=leaving)


def test_the_last_addresses_of_a_vswitch_go_to_pods() -> None:
    """The pool asks for six where two are free: none was given, and no pod started, for ever."""

    async def scenario() -> None:
        rig = Rig()
        for i in range(6):
            await rig.add(f"web-{i}")
        await rig.settle()
        assert rig.pool.stats().idle == 0
        _fill(rig, leaving=2)
        outcomes = await asyncio.gather(
            rig.add("one"), rig.add("two"), rig.add("three"), return_exceptions=True
        )
        (refused,) = [o for o in outcomes if isinstance(o, BaseException)]
        assert isinstance(refused, PoolExhausted)
        assert refused.cause is Cause.VSWITCH_FULL
        assert "vsw-pods" in str(refused)
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_the_last_address_of_a_vswitch_makes_a_first_eni() -> None:
    async def scenario() -> None:
        rig = Rig()
        _fill(rig, leaving=1)
        await rig.add("web")
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_a_refused_call_for_one_is_not_repeated_at_once() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("first")
        await rig.settle()
        _fill(rig, leaving=0)
        for i in range(5):
            await rig.add(f"idle-{i}")
        before = rig.cloud.count(Action.ASSIGN_IPV4)
        for name in ("one", "two", "three"):
            with pytest.raises(PoolExhausted, match=r"next try in \d+ s"):
                await rig.add(name)
        assert rig.cloud.count(Action.ASSIGN_IPV4) - before == 2, "for six, for one, and then no more"

    run(scenario())


def test_plenty_is_asked_for_again_after_a_while() -> None:
    async def scenario() -> None:
        rig = Rig()
        _fill(rig, leaving=1)
        await rig.add("first")
        await rig.settle()
        assert rig.account is not None
        rig.account.blocked.clear()
        rig.clock.advance(61)
        await rig.add("second")
        await rig.settle()
        assert rig.pool.stats().idle == 5

    run(scenario())


def calls(rig: Rig) -> int:
    return rig.cloud.count(Action.ASSIGN_IPV4) + rig.cloud.count(Action.CREATE_ENI)


@pytest.mark.parametrize("leaving", [0, 2])
def test_a_vswitch_with_little_left_does_not_slow_the_other_one_down(leaving: int) -> None:
    """The other one makes the next ENI, and is asked for as many as ever."""

    async def scenario() -> None:
        rig = Rig(vswitches=(PODS_VSWITCH, NODES_VSWITCH))
        for i in range(15):
            await rig.add(f"old-{i}")
        await rig.settle()
        _fill(rig, leaving)
        before = calls(rig)
        await asyncio.gather(*(rig.add(f"new-{i}") for i in range(12)))
        await rig.settle()
        assert calls(rig) - before <= 3, "refused, ten, and what is left"
        first, second = rig.journal.book.enis.values()
        assert (first.vswitch_id, second.vswitch_id) == (PODS_VSWITCH, NODES_VSWITCH)
        assert rig.pool.stats().idle > 0
        rig.assert_agree()

    run(scenario())


def test_after_each_answer_twice_as_many_are_asked_for() -> None:
    """An ENI that has fewer addresses left than we count is no reason for thirty calls."""

    async def scenario() -> None:
        rig = Rig()
        for i in range(6):
            await rig.add(f"idle-{i}")
        await rig.settle()
        rig.cloud.fail(Action.ASSIGN_IPV4, "InvalidOperation.Ipv4CountExceeded")
        before = calls(rig)
        await asyncio.gather(*(rig.add(f"web-{i}") for i in range(9)))
        assert calls(rig) - before <= 5, "refused, then 1, 2, 4 and what is left"

    run(scenario())


@pytest.mark.parametrize("code", ["InvalidVSwitchId.NotFound", "InvalidVSwitch.Ipv6NotTurnOn"])
def test_what_a_vswitch_has_refused_with_is_what_the_pod_is_told(code: str) -> None:
    """Not that it is full, which is only what is left of vSwitches without this one."""

    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail(Action.CREATE_ENI, code, times=9)
        with pytest.raises(PoolExhausted) as told:
            await rig.add("web")
        assert told.value.cause is Cause.INVALID_VSWITCH
        assert code in str(told.value)
        assert "vsw-pods" in str(told.value)

    run(scenario())
