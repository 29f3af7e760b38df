"""A call for several addresses that is refused: a pod needs one, and may have it."""

from __future__ import annotations

import asyncio

import pytest

from control.aliyun.actions import Action
from control.model.errors import Cause, PoolExhausted
from tests.unit.control_daemon.rig import PODS_VSWITCH, Rig
from tests.unit.control_daemon.test_use_cases import run


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
