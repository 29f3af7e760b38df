"""What the loops of upkeep do when the world moves while they wait for an answer."""

from __future__ import annotations

import asyncio

from control.agent.reconcile.upkeep import Upkeep
from control.model.errors import MetadataError
from control.model.ids import PodKey
from control.process.timers import Timers
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run


def upkeep_of(rig: Rig, timers: Timers | None = None) -> Upkeep:
    return Upkeep(
        journal=rig.journal,
        pool=rig.pool,
        allocators=rig.allocators,
        attachments=rig.attachments,
        kernel=rig.kernel,
        kubernetes=rig.kubernetes,
        inventory=rig.inventory,
        recovery=rig.recovery,
        orphans=rig.orphans,
        rebuild=rig.rebuild,
        timers=timers or Timers(rig.clock),
        sync_period=120.0,
    )


def test_collection_of_a_pod_deleted_meanwhile_does_not_free_its_successors_address() -> None:
    """GC itself did the damage: calico 5044. The record is looked at again after the API server's answer."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        first = (await rig.add("web-0")).record
        rig.kernel.endpoints.clear()
        rig.kubernetes.remove_pods()
        rig.clock.advance(200)

        async def slow_exists(key: PodKey, uid: str) -> bool:
            del key, uid
            await rig.delete("web-0")
            rig.clock.advance(31)
            assert (await rig.add("web-1")).record.ipv4 == first.ipv4
            return False

        rig.kubernetes.exists = slow_exists  # type: ignore[method-assign]  # the answer comes late
        await upkeep_of(rig).collect()
        assert first.ipv4 is not None
        owner = rig.journal.book.addresses[first.ipv4].owner
        assert owner is not None
        assert owner.container_id == "c-web-1"
        rig.assert_agree()

    run(scenario())


def test_a_loop_outlives_what_nobody_foresaw() -> None:
    """One ValueError must not end pool sync, watch and collection for as long as the daemon runs."""

    async def scenario() -> None:
        rig, calls = Rig(), 0
        timers = Timers(rig.clock)
        upkeep = upkeep_of(rig, timers)

        async def broken(*, ask_cloud: bool) -> None:
            nonlocal calls
            del ask_cloud
            calls += 1
            raise ValueError("nobody foresaw this")

        rig.reconciler.all = broken  # type: ignore[method-assign]  # a fault of ours
        running = asyncio.create_task(upkeep.run())
        async with asyncio.timeout(10):
            while calls < 2 and not running.done():
                timers.advance(61)
                await asyncio.sleep(0)
        assert calls >= 2
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(scenario())


def test_the_kernel_is_repaired_while_metadata_is_away() -> None:
    """Foreign daemons remove rules whenever they like, also while the metadata service is down: aws 3309."""

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        rig.kernel.endpoints.clear()
        timers = Timers(rig.clock)
        upkeep = upkeep_of(rig, timers)
        repaired: list[str] = []
        rig.recovery.reports.on_repair = repaired.append
        rig.metadata.failure = MetadataError("metadata did not answer within 2 s")
        running = asyncio.create_task(upkeep.run())
        async with asyncio.timeout(10):
            while not repaired:
                timers.advance(61)
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(scenario())
