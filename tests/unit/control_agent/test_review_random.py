"""Random days of a node: what no sequence of requests, refusals, lost answers and restarts may break.

Every port yields at random, so that answers come late and in another order. A failure names its seed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control.agent.allocation import operations, witnesses
from control.aliyun.actions import Action
from control.model.errors import TerwayError
from control.model.records import AddressState
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_review_upkeep import upkeep_of

REFUSALS = {
    Action.CREATE_ENI: ("InternalError", "Throttling"),
    Action.ATTACH_ENI: ("InternalError", "EniPerInstanceLimitExceeded", "InvalidOperation.InvalidEniState"),
    Action.ASSIGN_IPV4: ("InternalError", "InvalidVSwitchId.IpNotEnough", "Operation.Conflict"),
    Action.ASSIGN_IPV6: ("InternalError", "InvalidOperation.Ipv6CountExceeded"),
    Action.UNASSIGN_IPV4: ("InternalError", "Throttling"),
    Action.DETACH_ENI: ("InternalError", "InvalidOperation.InvalidEniState"),
    Action.DELETE_ENI: ("InternalError", "InvalidOperation.InvalidEniState"),
    Action.DESCRIBE_ENIS: ("InternalError", "Throttling"),
}


class Day:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tasks: list[asyncio.Task[Any]] = []
        self.rig = self._late(Rig(dual=self.rng.random() < 0.5, max_pool=self.rng.choice((0, 2, 5))))

    def _late(self, rig: Rig) -> Rig:
        for port, names in (
            (rig.cloud, ("_perform",)),
            (rig.metadata, ("macs", "eni", "addresses", "addresses_v6")),
        ):
            for name in names:
                setattr(port, name, self._slow(getattr(port, name)))
        return rig

    def _slow(self, ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def slow(*args: Any, **kwargs: Any) -> Any:
            await self.pause()
            try:
                return await ask(*args, **kwargs)
            finally:
                await self.pause()

        return slow

    async def pause(self) -> None:
        for _ in range(self.rng.choice((0, 0, 1, 3, 12))):
            await asyncio.sleep(0)

    def begin(self, work: Awaitable[Any]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def step(self) -> None:
        rng, rig = self.rng, self.rig
        name = f"web-{rng.randint(0, 30)}"
        container, uid = f"c-{name}-{rng.randint(0, 2)}", f"uid-{name}-{rng.randint(0, 1)}"
        match rng.randint(0, 12):
            case 0 | 1 | 2 | 3:
                self.begin(rig.add(name, container=container, uid=uid))
            case 4:
                for i in range(15):
                    self.begin(rig.add(f"burst-{i}"))
            case 5 | 6:
                self.begin(rig.delete(name, container=container))
            case 7:
                rig.clock.advance(rng.choice((1, 6, 31, 130)))
                rig.pool.sync()
            case 8:
                self.begin(rig.reconciler.all(ask_cloud=rng.random() < 0.5))
            case 9:
                self.refuse()
            case 10:
                rig.kernel.broken = rng.choice(("", "", "no route to the gateway"))
            case 11 if self.tasks:
                rng.choice(self.tasks).cancel()
            case 12 if rng.random() < 0.3:
                await self.end_requests()
                self.rig = self._late(await rig.restarted(reboot=rng.random() < 0.3))
        await self.pause()

    def refuse(self) -> None:
        action = self.rng.choice(list(REFUSALS))
        code = self.rng.choice(REFUSALS[action])
        lost = code == "InternalError" and self.rng.random() < 0.5
        self.rig.cloud.fail(action, code, times=self.rng.choice((1, 1, 3)), lost=lost)

    async def end_requests(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def evening(self) -> None:
        """The world is well again: every request ends in an answer or an error of ours, every pod goes."""
        self.rig.kernel.broken = ""
        self.rig.cloud._faults.clear()
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        expected = (TerwayError, asyncio.CancelledError)
        assert [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, expected)] == []
        for key in list(self.rig.journal.book.attachments):
            await self.rig.attachments.delete(key, None)
        for _ in range(10):
            self.rig.clock.advance(700)
            await upkeep_of(self.rig).collect()
            await self.rig.reconciler.all(ask_cloud=True)
            self.rig.pool.sync()
            await self.rig.settle()
            await self.rig.orphans.sweep()
            self.rig.pool.resume()
            await self.rig.settle()
            self.assert_sound()

    def assert_sound(self) -> None:
        book, stored = self.rig.journal.book, self.rig.ledger.load()
        held = Counter(a for r in book.attachments.values() for a in r.addresses())
        assert all(count == 1 for count in held.values()), "an address is handed out once"
        assert {r.address for r in book.addresses.values() if r.owner} == set(held)
        assert all(r.owner for r in book.addresses.values() if r.state is AddressState.ASSIGNED)
        assert {len(r.addresses()) for r in book.attachments.values()} <= {2 if self.rig.dual else 1}
        assert len(book.enis) <= 3
        assert {a.address: a for a in stored.addresses} == book.addresses
        assert {a.key: a for a in stored.attachments} == book.attachments


@pytest.mark.parametrize("seed", range(20))
def test_a_random_day_ends_with_ledger_cloud_and_kernel_in_agreement(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "STATE_TIMEOUT", 0.05)
    for name in ("WITNESS_TIMEOUT", "ASSIGNED_TIMEOUT"):
        monkeypatch.setattr(witnesses, name, 0.05)

    async def scenario() -> None:
        day = Day(seed)
        for _ in range(120):
            await day.step()
            day.assert_sound()
        await day.evening()
        day.rig.assert_agree()
        assert day.rig.pool.stats().idle <= day.rig.max_pool + 1, "what is too many goes back"
        await day.rig.pool.close()

    asyncio.run(scenario())
