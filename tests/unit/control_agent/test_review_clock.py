"""A clock that starts from another wall time than the one that wrote the ledger."""

from __future__ import annotations

from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_review_upkeep import upkeep_of
from tests.unit.control_agent.test_use_cases import run


def test_a_wall_clock_set_back_holds_no_address_and_no_dead_pod_back() -> None:
    """Before NTP, or once it corrects a fast clock: what was released "tomorrow" cools like the rest."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        rig.clock.advance(86_400)
        for i in range(3):
            await rig.add(f"web-{i}")
        await rig.delete("web-0")
        await rig.pool.close()
        new = Rig(
            ledger=rig.ledger, kernel=rig.kernel, kubernetes=rig.kubernetes, max_pool=0, account=rig.account
        )
        assert new.clock.now() < rig.clock.now() - 80_000
        await new.recovery.run("boot-1")
        assert new.pool.stats().cooling == 1
        await new.delete("web-1")
        new.clock.advance(31)
        assert (new.pool.stats().cooling, new.pool.stats().idle) == (0, 2)
        new.kernel.endpoints.clear()
        new.kubernetes.remove_pods()
        new.clock.advance(121)
        await upkeep_of(new).collect()
        assert not new.journal.book.attachments

    run(scenario())


def test_restart_keeps_what_is_left_of_a_cooldown() -> None:
    """Lost on restart once: aws 1127."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        await rig.delete("web-0")
        rig.clock.advance(20)
        new = await rig.restarted()
        assert (new.pool.stats().cooling, new.pool.stats().idle) == (1, 0)
        new.clock.advance(11)
        assert (new.pool.stats().cooling, new.pool.stats().idle) == (0, 1)

    run(scenario())
