"""Writes to the cloud that fail halfway: nothing is doubled, dropped, or given up for a passing fault."""

from __future__ import annotations

import asyncio

import pytest

from control.aliyun.actions import Action
from control.ipam import transitions
from control.model.cloud import MetadataEni
from control.model.errors import MetadataError, PoolExhausted, TerwayError
from control.model.ids import AttachmentKey, Mac
from control.model.records import AddressState, Operation
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run

KEY = AttachmentKey("c-web-0", "eth0")


def test_metadata_that_fails_for_a_moment_does_not_cost_the_eni() -> None:
    """Metadata timeouts stopped allocation: chaos-mesh 3599."""

    async def scenario() -> None:
        rig, reads = Rig(), 0
        read = rig.metadata.eni

        async def flaky(mac: Mac, *, ipv6: bool) -> MetadataEni | None:
            nonlocal reads
            reads += 1
            if reads < 3:
                raise MetadataError("metadata did not answer within 2 s")
            return await read(mac, ipv6=ipv6)

        rig.metadata.eni = flaky  # type: ignore[method-assign]
        await rig.add("web-0")
        assert rig.cloud.count(Action.CREATE_ENI) == 1
        rig.assert_agree()

    run(scenario())


def test_throttled_attach_is_resumed_and_not_undone() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail(Action.ATTACH_ENI, "Throttling")
        with pytest.raises(PoolExhausted):
            await rig.add("web-0")
        await rig.settle()
        assert rig.cloud.count(Action.DELETE_ENI) == 0
        rig.clock.advance(61)
        await rig.add("web-0")
        assert rig.cloud.count(Action.CREATE_ENI) == 1
        rig.assert_agree()

    run(scenario())


def test_fault_of_ours_in_an_operation_is_told_and_not_tried_in_a_hot_loop() -> None:
    async def scenario() -> None:
        rig, runs = Rig(), 0
        told: list[TerwayError] = []
        rig.runner.on_failure = told.append

        async def broken(operation: Operation, *, resumed: bool) -> None:
            nonlocal runs
            del resumed
            runs += 1
            raise KeyError(operation.token)

        rig.work.run = broken  # type: ignore[method-assign]
        with pytest.raises(PoolExhausted):
            async with asyncio.timeout(5):
                await rig.add("web-0")
        for _ in range(100):
            await asyncio.sleep(0)
        assert runs == 1
        assert "KeyError" in str(told[0])

    run(scenario())


def test_failed_release_does_not_keep_its_eni_from_serving() -> None:
    """Release shares no retry budget with allocation, in neither direction: terway 100."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        for i in range(3):
            await rig.add(f"web-{i}")
        await rig.delete("web-2")
        rig.clock.advance(31)
        rig.cloud.fail(Action.UNASSIGN_IPV4, "InternalError")
        rig.pool.sync()
        await rig.settle()
        await rig.add("web-3")
        assert rig.cloud.count(Action.CREATE_ENI) == 1
        held_off = list(map(str, rig.rejections.all(rig.clock.now())))
        assert held_off == [f"release of {rig.journal.book.attachments[KEY].eni_id}"]
        rig.clock.advance(6)
        rig.pool.sync()
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_frozen_address_that_nobody_holds_is_given_back() -> None:
    """A valid address missing remotely is unassigned once it is free; it once took its place for ever."""

    async def scenario() -> None:
        rig = Rig()
        held = (await rig.add("web-0")).record
        book = rig.journal.book
        frozen = [r for r in book.addresses.values() if r.address.packed[-1] in (1, 2, 3)]
        rig.journal.record(transitions.freeze_addresses(frozen, rig.clock.now()))
        assert held.ipv4 in {r.address for r in frozen}
        rig.pool.sync()
        assert rig.pool.settled, "they may be seen again in a moment"
        rig.clock.advance(601)
        rig.pool.sync()
        await rig.settle()
        left = {a for a, r in book.addresses.items() if r.state is AddressState.FROZEN}
        assert left == {held.ipv4}
        rig.assert_agree()

    run(scenario())


@pytest.mark.parametrize("code", ["Throttling", "LastTokenProcessing", "Forbidden.RAM"])
def test_refusal_of_a_repeated_create_does_not_drop_an_eni_that_the_first_one_made(code: str) -> None:
    """Cilium 21747, aws 69: its answer was lost, and the repeat refused before its token was looked at."""

    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail(Action.CREATE_ENI, "InternalError", lost=True)
        rig.cloud.fail(Action.CREATE_ENI, code)
        for _ in range(2):
            with pytest.raises(PoolExhausted):
                await rig.add("web-0")
            await rig.settle()
            rig.clock.advance(130)
        await rig.add("web-0")
        rig.assert_agree()

    run(scenario())
