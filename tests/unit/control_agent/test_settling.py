"""Operations whose outcome stays unknown have an end, and ENIs that nobody remembers are found."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from control.agent.allocation import witnesses
from control.agent.allocation.cluster_id import CLUSTER_TAG
from control.agent.allocation.orphans import ORPHAN_AGE
from control.agent.allocation.ownership import NODE_TAG
from control.agent.allocation.runner import TRIES
from control.aliyun.actions import Action
from control.aliyun.fake import FakeCloud
from control.model.cloud import CreateEni, Eni
from control.model.errors import PoolExhausted, TerwayError
from control.model.ids import ClientToken, EniId, InstanceId, SecurityGroupId
from control.model.records import AddressState, EniState, OperationKind
from tests.unit.control_agent.rig import NODE, PODS_VSWITCH, Rig

FAULT = "InternalError"
FOR_EVER = 10_000


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


async def tried(rig: Rig, *, rounds: int = TRIES + 2) -> None:
    """Let every operation of the ledger be tried so often, its pauses skipped."""
    for _ in range(rounds):
        rig.clock.advance(31)
        rig.pool.resume()
        await rig.settle()


async def looked_at(rig: Rig) -> None:
    """Two rounds of the watch, as what is adopted must be seen twice."""
    for _ in range(2):
        rig.clock.advance(61)
        await rig.reconciler.all(ask_cloud=False)
        await rig.settle()


async def grown(rig: Rig, name: str) -> None:
    """A pod comes, whether or not the cloud lets it be served."""
    with contextlib.suppress(TerwayError):
        async with asyncio.timeout(5):
            await rig.add(name)
    await rig.settle()


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("action", [Action.ASSIGN_IPV4, Action.ASSIGN_IPV6])
def test_assignment_that_is_never_answered(action: Action, effect: bool) -> None:
    """In dual stack, either half: nothing leaks, and the ENI grows again."""

    async def scenario() -> None:
        rig = Rig(dual=True, max_pool=0)
        await rig.add("web-0")
        rig.cloud.fail(action, FAULT, times=FOR_EVER, lost=effect)
        await grown(rig, "web-1")
        assert [o.kind for o in rig.journal.book.operations.values()] == [OperationKind.ASSIGN]
        await tried(rig)
        assert not rig.journal.book.operations
        rig.cloud._faults.clear()
        await looked_at(rig)
        shown = {a for e in rig.account.enis().values() if e.mac != NODE.mac for a in e.addresses()}  # type: ignore[union-attr]
        assert shown == set(rig.journal.book.addresses), "not one half is unknown"
        rig.clock.advance(61)
        await rig.add("web-2")
        rig.assert_agree()

    run(scenario())


def test_restart_after_restart_does_not_keep_an_operation_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        assign = FakeCloud.assign_ipv4

        async def unanswered(self: FakeCloud, eni: EniId, count: int, token: ClientToken) -> Any:
            self.fail(Action.ASSIGN_IPV4, FAULT, lost=True)
            return await assign(self, eni, count, token)

        monkeypatch.setattr(FakeCloud, "assign_ipv4", unanswered)
        await grown(rig, "web-1")
        for _ in range(4):
            assert rig.journal.book.operations
            rig.clock.advance(300)
            rig = await rig.restarted()
            await rig.settle()
        await tried(rig, rounds=1)
        assert not rig.journal.book.operations

    run(scenario())


@pytest.mark.parametrize("effect", [True, False])
def test_creation_that_is_never_answered(effect: bool) -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        rig.cloud.fail(Action.CREATE_ENI, FAULT, times=FOR_EVER, lost=effect)
        await grown(rig, "web-0")
        await tried(rig)
        assert not rig.journal.book.operations
        rig.cloud._faults.clear()
        rig.clock.advance(61)
        await rig.add("web-1")
        await rig.settle()
        assert len(rig.journal.book.enis) == 1
        rig.assert_agree()

    run(scenario())


def test_creation_answered_with_an_eni_that_is_known_touches_it_not() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        assert rig.account is not None
        (known,) = [e for e in rig.account.enis().values() if e.mac != NODE.mac]
        rig.cloud.answer_with(Action.CREATE_ENI, known)
        for n in range(1, 16):
            await grown(rig, f"web-{n}")
        record = rig.journal.book.enis[known.eni_id]
        assert record.state is EniState.SERVING
        rig.cloud.answer_with(Action.CREATE_ENI, None)
        await tried(rig)
        assert not rig.journal.book.operations
        rig.assert_agree()

    run(scenario())


@pytest.mark.parametrize("words", ["known", "somebody else's"])
def test_assignment_answered_with_addresses_that_are_not_its_own(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "ASSIGNED_TIMEOUT", 0.05)

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        first = await rig.add("web-0")
        others = IPv4Address("10.99.0.1")
        told = first.record.ipv4 if words == "known" else others
        rig.cloud.answer_with(Action.ASSIGN_IPV4, (told,))
        await grown(rig, "web-1")
        rig.cloud.answer_with(Action.ASSIGN_IPV4, None)
        assert rig.journal.book.addresses[first.record.ipv4].owner == first.record.key  # type: ignore[index]
        assert others not in {a for e in rig.kernel.endpoints.values() for a in e.addresses()}
        await tried(rig)
        assert not rig.journal.book.operations
        await looked_at(rig)
        rig.clock.advance(700)
        rig.pool.sync()
        await rig.settle()
        assert others not in rig.journal.book.addresses

    run(scenario())


@pytest.mark.parametrize("effect", [True, False])
def test_unassignment_that_is_never_answered(effect: bool) -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        for n in range(3):
            await rig.add(f"web-{n}")
        for n in (1, 2):
            await rig.delete(f"web-{n}")
        rig.clock.advance(31)
        rig.cloud.fail(Action.UNASSIGN_IPV4, FAULT, times=FOR_EVER, lost=effect)
        rig.pool.sync()
        await rig.settle()
        assert rig.journal.book.operations
        await tried(rig)
        assert not rig.journal.book.operations
        states = {r.state for r in rig.journal.book.addresses.values()}
        assert states <= {AddressState.ASSIGNED, AddressState.FREE, AddressState.FROZEN}
        rig.cloud._faults.clear()
        await looked_at(rig)
        assert AddressState.FROZEN not in {r.state for r in rig.journal.book.addresses.values()}
        rig.clock.advance(31)
        await rig.add("web-3")
        rig.assert_agree()

    run(scenario())


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("action", [Action.DETACH_ENI, Action.DELETE_ENI])
def test_giving_an_eni_back_is_never_answered(action: Action, effect: bool) -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        await rig.delete("web-0")
        rig.clock.advance(31)
        rig.cloud.fail(action, FAULT, times=FOR_EVER, lost=effect)
        rig.pool.sync()
        await rig.settle()
        assert rig.journal.book.operations
        await tried(rig)
        assert not rig.journal.book.operations
        rig.cloud._faults.clear()
        await looked_at(rig)
        for _ in range(2):
            await rig.orphans.sweep()
            rig.pool.resume()
            await rig.settle()
            rig.clock.advance(ORPHAN_AGE + 1)
        await rig.add("web-1")
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_attachment_that_is_never_answered_is_given_back() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        rig.cloud.fail(Action.ATTACH_ENI, FAULT, times=FOR_EVER)
        await grown(rig, "web-0")
        await tried(rig)
        rig.cloud._faults.clear()
        await tried(rig, rounds=1)
        assert not rig.journal.book.operations
        assert not rig.in_cloud()
        rig.clock.advance(61)
        await rig.add("web-1")
        rig.assert_agree()

    run(scenario())


def test_eni_that_another_node_has_by_now_is_left_alone() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        await rig.delete("web-0")
        assert rig.account is not None
        (eni,) = [e for e in rig.account.enis().values() if e.mac != NODE.mac]
        rig.account._put(replace(eni, instance_id=InstanceId("i-other")))
        rig.clock.advance(31)
        rig.pool.sync()
        await rig.settle()
        assert eni.eni_id in rig.account.enis()
        assert not rig.journal.book.operations
        assert not rig.journal.book.enis
        assert Action.DETACH_ENI not in {c.action for c in rig.cloud.calls}
        assert Action.DELETE_ENI not in {c.action for c in rig.cloud.calls}

    run(scenario())


def _made(rig: Rig, *, instance: str = NODE.instance_id, cluster: str = "cluster-1") -> str:
    """An ENI that somebody has created and nobody attached."""
    assert rig.account is not None
    tags = (("creator", "terway"), (NODE_TAG, instance), (CLUSTER_TAG, cluster))
    request = CreateEni(
        PODS_VSWITCH, (SecurityGroupId("sg-cluster"),), 1, 0, ClientToken(f"{instance}-{cluster}"), tags
    )
    return rig.account.create(request).eni_id


def test_eni_that_nobody_remembers_is_given_back() -> None:
    """Not before it is old enough; never another node's, nor another cluster's of the same node."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        orphan = _made(rig)
        others = {_made(rig, instance="i-other"), _made(rig, cluster="cluster-2")}
        assert not await rig.orphans.sweep(), "there is no reason to look"
        new = await rig.restarted(reboot=True)
        assert new.account is not None
        for age in (1.0, ORPHAN_AGE, 1.0):
            assert not await new.orphans.sweep() or age == 1.0
            new.pool.resume()
            await new.settle()
            new.clock.advance(age)
        assert orphan not in new.account.enis()
        assert others <= set(new.account.enis())

    run(scenario())


def test_eni_of_a_creation_under_way_is_no_orphan() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        rig.cloud.fail(Action.CREATE_ENI, FAULT, times=2, lost=True)
        with pytest.raises((PoolExhausted, TerwayError)):
            await rig.add("web-0")
        rig.orphans.suspect()
        rig.clock.advance(ORPHAN_AGE)
        assert not await rig.orphans.sweep()
        assert len(rig.in_cloud()) == 1
        await tried(rig, rounds=3)
        assert len(rig.in_cloud()) == 1
        await rig.add("web-0")
        rig.assert_agree()

    run(scenario())


def test_every_eni_says_whose_it_is() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        assert rig.account is not None
        (eni,) = [e for e in rig.account.enis().values() if e.mac != NODE.mac]
        assert dict(eni.tags) == {"creator": "terway", NODE_TAG: NODE.instance_id, CLUSTER_TAG: "cluster-1"}

    run(scenario())


@pytest.mark.parametrize("restarted", [False, True])
def test_eni_that_its_creation_did_not_name_is_given_back(restarted: bool) -> None:
    """The answer names one that is not there; a restart in between forgets no reason to look."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        assert rig.account is not None
        before, create = set(rig.account.enis()), rig.cloud.create_eni

        async def another(request: CreateEni) -> Eni:
            return replace(await create(request), eni_id=EniId("eni-of-nobody"))

        rig.cloud.create_eni = another  # type: ignore[method-assign]
        await grown(rig, "web-0")
        assert set(rig.account.enis()) != before
        rig.cloud.create_eni = create  # type: ignore[method-assign]
        new = await rig.restarted() if restarted else rig
        new.pool.resume()
        await new.settle()
        for _ in range(4):
            await new.orphans.sweep()
            new.pool.resume()
            await new.settle()
            new.clock.advance(ORPHAN_AGE + 1)
        assert new.account is not None
        assert set(new.account.enis()) == before
        assert not new.journal.book.operations

    run(scenario())
