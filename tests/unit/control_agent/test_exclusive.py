"""ENIs of a pod's own beside shared ones: the same instance's ENIs, and nothing else in common."""

from __future__ import annotations

import asyncio

import pytest

from control.agent.allocation import exclusive
from control.agent.allocation.allocators import Allocators
from control.agent.allocation.exclusive import IDLE_KEPT
from control.agent.allocation.ownership import NODE_TAG
from control.agent.allocation.pool import Pool
from control.aliyun.actions import Action
from control.ipam import transitions
from control.ipam.allocator import AllocationRequest, Reservation
from control.ipam.rejections import of_eni, of_vswitch
from control.model.cloud import CreateEni
from control.model.eni_tags import KIND_TAG, kind_tags
from control.model.errors import Cause, CloudError, PoolExhausted, RequestError
from control.model.ids import AttachmentKey, ClientToken, EniId, PodKey, SecurityGroupId
from control.model.modes import EniKind, NetworkMode, UplinkKind
from control.model.records import EniState, Operation, OperationKind
from control.store.memory import MemoryLedger
from tests.unit.control_agent.rig import NODE, PODS_VSWITCH, Rig
from tests.unit.control_agent.test_use_cases import run


def _request(name: str, *, kind: UplinkKind = UplinkKind.OWN_ENI, ipv6: bool = False) -> AllocationRequest:
    key, pod = AttachmentKey(f"c-{name}", "eth0"), PodKey("default", name)
    return AllocationRequest(key, pod, f"uid-{name}", kind, NetworkMode.MACVLAN, ipv6=ipv6)


async def _own(rig: Rig, name: str) -> Reservation:
    reservation = await rig.allocators.acquire(_request(name))
    reservation.commit()
    await rig.settle()
    return reservation


def _end(rig: Rig, reservation: Reservation) -> None:
    rig.attachments.finish(rig.journal.book.attachments[reservation.record.key])


def test_a_kind_that_the_node_has_not_is_told_with_what_it_has() -> None:
    async def scenario() -> None:
        rig = Rig()
        with pytest.raises(RequestError) as told:
            await rig.allocators.acquire(_request("web", kind=UplinkKind.TRUNK_MEMBER))
        assert told.value.cause is Cause.UNSUPPORTED
        assert (
            "pod default/web asks for member ENIs of a trunk, this node has addresses of shared ENIs"
            in str(told.value)
        )
        with pytest.raises(RequestError, match="this node has none of any kind"):
            await Allocators({}).acquire(_request("web"))
        assert not rig.journal.book.attachments

    run(scenario())


def test_each_pod_has_an_eni_of_its_own_which_is_no_part_of_the_pool() -> None:
    async def scenario() -> None:
        rig = Rig()
        one, two = await _own(rig, "one"), await _own(rig, "two")
        enis = rig.journal.book.enis
        assert one.record.uplink != two.record.uplink
        assert {e.kind for e in enis.values()} == {EniKind.EXCLUSIVE}
        assert one.record.ipv4 == enis[one.record.eni_id].primary_ip
        stats = rig.pool.stats()
        assert (stats.total, stats.idle, stats.in_use, stats.frozen) == (0, 0, 0, 0)
        rig.pool.sync()
        shared = await rig.add("shared")
        assert enis[shared.record.eni_id].kind is EniKind.SECONDARY
        assert shared.record.eni_id not in (one.record.eni_id, two.record.eni_id)
        assert rig.cloud.count(Action.ASSIGN_IPV4) == 0, "nobody adds addresses to a pod's own ENI"

    run(scenario())


def test_both_kinds_together_never_ask_for_more_enis_than_the_instance_may_have() -> None:
    async def scenario() -> None:
        rig = Rig()
        asked = [rig.allocators.acquire(_request(f"own-{i}")) for i in range(2)]
        outcomes = await asyncio.gather(
            *(rig.add(f"web-{i}") for i in range(30)), *asked, return_exceptions=True
        )
        await rig.settle()
        assert len(rig.journal.book.enis) == 3
        assert rig.cloud.count(Action.CREATE_ENI) == 3
        told = [str(o) for o in outcomes if isinstance(o, BaseException)]
        assert all(isinstance(o, PoolExhausted) for o in outcomes if isinstance(o, BaseException)), told
        with pytest.raises(PoolExhausted, match=r"no ENI is free for this pod alone: 3 of 3 ENIs"):
            await rig.allocators.acquire(_request("one-more"))

    run(scenario())


def test_the_next_pod_has_it_after_the_cooldown_and_the_same_pod_at_once() -> None:
    async def scenario() -> None:
        rig = Rig()
        first = await _own(rig, "one")
        _end(rig, first)
        again = await _own(rig, "one")
        assert again.record.uplink == first.record.uplink
        _end(rig, again)
        rig.clock.advance(31)
        other = await _own(rig, "two")
        assert other.record.uplink == first.record.uplink
        assert rig.cloud.count(Action.CREATE_ENI) == 1

    run(scenario())


def test_while_it_cools_and_no_other_can_be_had_the_time_is_told() -> None:
    async def scenario() -> None:
        rig = Rig()
        made = [await _own(rig, f"pod-{i}") for i in range(3)]
        _end(rig, made[0])
        with pytest.raises(PoolExhausted) as told:
            await rig.allocators.acquire(_request("next"))
        assert told.value.cause is Cause.COOLING
        assert told.value.retry_after is not None
        rig.clock.advance(told.value.retry_after + 1)
        assert (await _own(rig, "next")).record.uplink == made[0].record.uplink

    run(scenario())


def test_idle_for_a_while_it_goes_back_to_the_cloud_and_one_in_use_stays() -> None:
    async def scenario() -> None:
        rig = Rig()
        idle, used = await _own(rig, "idle"), await _own(rig, "used")
        _end(rig, idle)
        rig.clock.advance(IDLE_KEPT - 1)
        rig.allocators.sync()
        await rig.settle()
        assert len(rig.journal.book.enis) == 2
        rig.clock.advance(2)
        rig.allocators.sync()
        await rig.settle()
        assert list(rig.journal.book.enis) == [used.record.eni_id]
        assert rig.account is not None
        assert {e.mac for e in rig.account.enis().values()} == {
            NODE.mac,
            rig.journal.book.enis[used.record.eni_id].mac,
        }

    run(scenario())


def test_a_death_between_create_and_attach_does_not_make_it_a_shared_one() -> None:
    async def scenario() -> None:
        rig = Rig()
        gate = rig.cloud.hold(Action.ATTACH_ENI)
        asking = asyncio.create_task(rig.allocators.acquire(_request("web")))
        while rig.cloud.count(Action.ATTACH_ENI) == 0:
            await asyncio.sleep(0)
        restarted = await rig.restarted()
        gate.set()
        with pytest.raises(PoolExhausted, match="terwayd is stopping"):
            await asking
        await restarted.settle()
        (eni,) = restarted.journal.book.enis.values()
        assert (eni.kind, eni.state) == (EniKind.EXCLUSIVE, EniState.SERVING)
        assert restarted.pool.stats().total == 0
        assert (await _own(restarted, "web")).record.eni_id == eni.eni_id

    run(scenario())


def test_a_lost_ledger_shares_no_pods_own_eni() -> None:
    async def scenario() -> None:
        rig = Rig()
        own = await _own(rig, "web")
        assert rig.account is not None
        tags = dict(rig.account.enis()[own.record.eni_id].tags)
        assert tags[KIND_TAG] == "exclusive"
        rig.ledger = MemoryLedger()
        restarted = await rig.restarted()
        assert restarted.journal.book.enis[own.record.eni_id].kind is EniKind.EXCLUSIVE
        shared = await restarted.add("shared")
        assert shared.record.eni_id != own.record.eni_id

    run(scenario())


def test_one_that_a_running_pod_has_without_a_record_is_nobody_elses() -> None:
    async def scenario() -> None:
        rig = Rig()
        first = await _own(rig, "one")
        _end(rig, first)
        rig.clock.advance(31)
        rig.journal.book.hold(frozenset(first.record.addresses()))
        second = await _own(rig, "two")
        assert second.record.eni_id != first.record.eni_id
        rig.clock.advance(IDLE_KEPT + 1)
        rig.allocators.sync()
        await rig.settle()
        assert first.record.eni_id in rig.journal.book.enis, "nor is it given back"

    run(scenario())


def test_a_cloud_that_refuses_is_told_to_this_pod_and_does_not_stop_the_shared_ones() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("shared")
        await rig.settle()
        rig.cloud.fail(Action.CREATE_ENI, "InvalidSecurityGroupId.NotFound", times=9)
        with pytest.raises(PoolExhausted, match=r"InvalidSecurityGroupId.NotFound.*next try in \d+ s"):
            await rig.allocators.acquire(_request("web"))
        await rig.add("shared-too")
        assert rig.cloud.count(Action.CREATE_ENI) == 2

    run(scenario())


def test_nothing_is_made_before_it_is_known_what_there_is() -> None:
    """At the start: an ENI of the lost ledger may be the one."""

    async def scenario() -> None:
        rig = Rig()
        rig.pool.hold()
        asking = asyncio.create_task(rig.allocators.acquire(_request("web")))
        await asyncio.sleep(0)
        rig.allocators.kick()
        assert rig.cloud.count(Action.CREATE_ENI) == 0
        rig.pool.go_on(None)
        assert (await asking).record.uplink.kind is UplinkKind.OWN_ENI

    run(scenario())


def test_dual_stack_has_an_address_of_each_family() -> None:
    async def scenario() -> None:
        rig = Rig(dual=True)
        reservation = await rig.allocators.acquire(_request("web", ipv6=True))
        assert reservation.record.ipv4 is not None
        assert reservation.record.ipv6 is not None

    run(scenario())


def test_the_pool_alone_is_what_a_shared_request_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        rig = Rig()
        await _own(rig, "own")
        asked: list[str] = []
        acquire = Pool.acquire

        async def counted(pool: Pool, request: AllocationRequest) -> Reservation:
            asked.append(request.pod.name)
            return await acquire(pool, request)

        monkeypatch.setattr(Pool, "acquire", counted)
        await rig.add("shared")
        assert asked == ["shared"]

    run(scenario())


@pytest.mark.parametrize("kind", [EniKind.SECONDARY, EniKind.EXCLUSIVE])
def test_a_creation_that_was_never_answered_ends_with_what_was_made_for_it_alone(kind: EniKind) -> None:
    """An orphan of the other kind is another creation's, and its tag goes on saying what it is for."""

    async def scenario() -> None:
        rig = Rig()
        assert rig.account is not None
        tags = (("creator", "terway"), (NODE_TAG, NODE.instance_id), *kind_tags(EniKind.EXCLUSIVE))
        lost = CreateEni(PODS_VSWITCH, (SecurityGroupId("sg-cluster"),), 1, 0, ClientToken("lost"), tags)
        made = rig.account.create(lost)
        operation = Operation(
            ClientToken("mine"),
            OperationKind.CREATE_ENI,
            rig.clock.now(),
            vswitch_id=PODS_VSWITCH,
            ipv4_count=1,
            eni_kind=kind,
        )
        rig.journal.record(transitions.begin_operation(operation))
        await rig.settling.settle(operation)
        assert not rig.journal.book.operations
        adopted = {e.eni_id: e.kind for e in rig.journal.book.enis.values()}
        assert adopted == ({made.eni_id: kind} if kind is EniKind.EXCLUSIVE else {})

    run(scenario())


def test_who_has_waited_too_long_is_told_what_the_cloud_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A creation whose outcome is unknown is tried again and again while the pod waits."""
    monkeypatch.setattr(exclusive, "ACQUIRE_TIMEOUT", 0.05)

    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail(Action.CREATE_ENI, "InternalError", times=9)
        with pytest.raises(PoolExhausted, match="InternalError"):
            await rig.allocators.acquire(_request("web"))

    run(scenario())


def test_capacity_is_what_shared_enis_may_have() -> None:
    """Nothing is left to ask the cloud for when pods have all ENIs for themselves: no call stands by."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        assert rig.pool.stats().capacity == 45
        for number in range(3):
            assert rig.pool.stats().capacity == 45 - 15 * number
            await _own(rig, f"own-{number}")
        rig.allocators.kick()
        assert rig.pool.stats().capacity == 0
        assert not rig.cloud.wanted

    run(scenario())


def test_what_a_shared_eni_was_refused_is_no_reason_of_a_pod_that_needs_its_own() -> None:
    async def scenario() -> None:
        rig = Rig()
        for number in range(3):
            await _own(rig, f"own-{number}")
        full = CloudError("no address left", cause=Cause.VSWITCH_FULL, action="AssignPrivateIpAddresses")
        for scope in (of_eni(EniId("eni-shared")), of_vswitch(PODS_VSWITCH)):
            rig.rejections.hold_off(scope, full, rig.clock.now())
        with pytest.raises(PoolExhausted, match="3 of 3 ENIs for pods are there") as told:
            await rig.allocators.acquire(_request("one-more"))
        assert told.value.cause is Cause.POOL_LIMIT

    run(scenario())
