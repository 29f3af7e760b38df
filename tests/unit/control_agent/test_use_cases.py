"""ADD, DEL, growth and shrinking over the fakes: what is called, what is left, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from control.agent.cni.attach import AddRequest
from control.agent.dataplane.fake_kernel import FakeKernel
from control.aliyun.actions import Action
from control.ipam import transitions
from control.model.cloud import CreateEni
from control.model.errors import Cause, KernelError, PodNotFound, PoolExhausted, RequestError
from control.model.ids import AttachmentKey, ClientToken, EniId, PodKey, SecurityGroupId
from control.model.records import AttachmentState, Changes, EniState, Operation, OperationKind
from control.store.memory import MemoryLedger
from tests.unit.control_agent.rig import PODS_VSWITCH, Rig


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def _warm(rig: Rig) -> bool:
    return rig.cloud.wanted


def test_first_pod_costs_four_calls_and_ten_more_cost_two() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        assert [c.action for c in rig.cloud.calls] == [
            Action.DESCRIBE_VSWITCHES,
            Action.CREATE_ENI,
            Action.ATTACH_ENI,
            Action.DESCRIBE_ENIS,
        ]
        rig.cloud.calls.clear()
        for i in range(1, 11):
            await rig.add(f"web-{i}")
        await rig.settle()
        assert [c.action for c in rig.cloud.calls] == [Action.ASSIGN_IPV4]
        rig.assert_agree()

    run(scenario())


def test_pods_that_come_during_a_call_share_the_next_one() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        gate = rig.cloud.hold(Action.ASSIGN_IPV4)
        adds = [asyncio.create_task(rig.add(f"web-{i}")) for i in range(1, 13)]
        while rig.cloud.count(Action.ASSIGN_IPV4) == 0:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert rig.cloud.count(Action.ASSIGN_IPV4) == 1, "seven pods wait for one call under way"
        gate.set()
        await asyncio.gather(*adds)
        await rig.settle()
        assert rig.cloud.count(Action.ASSIGN_IPV4) <= 2
        rig.assert_agree()

    run(scenario())


def test_pods_of_both_families_get_both_from_one_eni() -> None:
    async def scenario() -> None:
        rig = Rig(dual=True)
        for i in range(9):
            attached = await rig.add(f"web-{i}")
            assert attached.record.ipv4 is not None
            assert attached.record.ipv6 is not None
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_failed_kernel_leaves_nothing_and_the_pod_is_told() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.kernel.broken = "route 10.0.1.2/32 dev cali0: No such device"
        with pytest.raises(KernelError):
            await rig.add("web-0")
        await rig.settle()
        rig.assert_agree()
        assert not rig.journal.book.attachments
        told = rig.kubernetes.events[-1]
        assert (told.about, told.reason) == ("default/web-0", "AllocIPFailed")
        assert "KernelRefused" in told.message
        rig.kernel.broken = ""
        await rig.add("web-0")
        rig.assert_agree()

    run(scenario())


def test_full_vswitch_fails_fast_with_cause_and_next_try_and_heals() -> None:
    """A vSwitch that was full once must stop neither allocation for ever nor release: terway 100."""

    async def scenario() -> None:
        rig = Rig()
        assert rig.account is not None
        rig.account.fill(PODS_VSWITCH)
        with pytest.raises(PoolExhausted, match="No available IP addresses") as failure:
            await rig.add("web-0")
        assert failure.value.cause is Cause.VSWITCH_FULL
        assert failure.value.retry_after
        assert "next try in" in str(failure.value)
        calls = len(rig.cloud.calls)
        with pytest.raises(PoolExhausted):
            await rig.add("web-0")
        assert len(rig.cloud.calls) == calls, "what was just refused is not asked again at once"
        rig.account.blocked.clear()
        rig.clock.advance(failure.value.retry_after + 1)
        await rig.add("web-0")
        rig.assert_agree()

    run(scenario())


def test_eni_quota_reached_leaves_no_eni_behind() -> None:
    """An ENI that was created and cannot be attached once stayed for ever: cilium 21747."""

    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail(Action.ATTACH_ENI, "EniPerInstanceLimitExceeded")
        with pytest.raises(PoolExhausted) as failure:
            await rig.add("web-0")
        assert failure.value.cause is Cause.ENI_QUOTA
        await rig.settle()
        assert rig.in_cloud() == frozenset()
        rig.assert_agree()

    run(scenario())


def test_lost_answer_of_a_create_is_asked_for_again_with_the_same_token() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail(Action.CREATE_ENI, "InternalError", lost=True)
        with pytest.raises(PoolExhausted):
            await rig.add("web-0")
        assert len(rig.journal.book.operations) == 1, "the intent stays while the effect may exist"
        new = await rig.restarted()
        await new.settle()
        assert rig.account is not None
        assert len([e for e in rig.account.enis().values() if e.vswitch_id == PODS_VSWITCH]) == 1
        await new.add("web-0")
        new.assert_agree()

    run(scenario())


def test_eni_that_metadata_never_shows_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.agent.allocation.witnesses.WITNESS_TIMEOUT", 0.05)

    async def scenario() -> None:
        rig = Rig()
        assert rig.account is not None
        rig.account.lags.metadata = 1e9
        with pytest.raises(PoolExhausted, match="metadata does not list it"):
            await rig.add("web-0")
        await rig.settle()
        assert rig.in_cloud() == frozenset()
        rig.assert_agree()

    run(scenario())


def test_delete_twice_of_the_unknown_and_without_namespace() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.delete("nobody")
        await rig.add("web-0")
        await rig.delete("web-0")
        await rig.delete("web-0")
        assert not rig.kernel.endpoints
        assert not rig.journal.book.attachments

    run(scenario())


def test_late_delete_of_an_old_sandbox_leaves_the_new_one_alone() -> None:
    async def scenario() -> None:
        rig = Rig()
        old = await rig.add("web-0", container="old")
        new = await rig.add("web-0", container="new")
        assert new.record.ipv4 == old.record.ipv4, "the same pod keeps its address"
        await rig.delete("web-0", container="old")
        assert rig.kernel.pod_links() == {new.record.host_link: "new"}
        rig.assert_agree()

    run(scenario())


def test_new_pod_of_the_same_name_gets_another_address_than_the_old_one_holds() -> None:
    async def scenario() -> None:
        rig = Rig()
        old = await rig.add("web-0", container="old", uid="uid-1")
        new = await rig.add("web-0", container="new", uid="uid-2")
        assert new.record.ipv4 != old.record.ipv4
        rig.assert_agree()

    run(scenario())


def test_add_again_for_the_same_sandbox_answers_the_same() -> None:
    async def scenario() -> None:
        rig = Rig()
        first = await rig.add("web-0")
        assert (await rig.add("web-0")).record.ipv4 == first.record.ipv4
        rig.assert_agree()

    run(scenario())


def test_second_request_for_a_pod_under_way_is_refused_and_delete_calls_it_off() -> None:
    async def scenario() -> None:
        rig = Rig()
        gate = rig.cloud.hold(Action.CREATE_ENI)
        adding = asyncio.create_task(rig.add("web-0"))
        while not rig.cloud.calls:
            await asyncio.sleep(0)
        with pytest.raises(RequestError) as busy:
            await rig.add("web-0", container="other")
        assert busy.value.cause is Cause.BUSY
        await rig.delete("web-0")
        with pytest.raises(RequestError, match="called off by a DEL"):
            await adding
        gate.set()
        await rig.settle()
        assert not rig.journal.book.attachments
        rig.assert_agree()

    run(scenario())


def test_cancelled_add_in_the_queue_leaves_nobody_waiting() -> None:
    async def scenario() -> None:
        rig = Rig()
        gate = rig.cloud.hold(Action.CREATE_ENI)
        adding = asyncio.create_task(rig.add("web-0"))
        while not rig.cloud.count(Action.CREATE_ENI):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert rig.pool.stats().waiting == 0
        gate.set()
        await rig.settle()
        assert rig.pool.stats().in_use == 0
        rig.assert_agree()

    run(scenario())


def test_unknown_pod_costs_nothing() -> None:
    async def scenario() -> None:
        rig = Rig()
        request = AddRequest(AttachmentKey("c", "eth0"), PodKey("default", "ghost"), "", "/x", 0)
        with pytest.raises(PodNotFound):
            await rig.attachments.add(request)
        assert not rig.cloud.calls
        rig.assert_agree()

    run(scenario())


def test_idle_addresses_beyond_the_maximum_go_back_and_an_empty_eni_goes_whole() -> None:
    async def scenario() -> None:
        rig = Rig()
        for i in range(30):
            await rig.add(f"web-{i}")
        await rig.settle()
        assert len(rig.journal.book.enis) >= 2
        for i in range(30):
            await rig.delete(f"web-{i}")
        rig.clock.advance(31)
        for _ in range(8):
            rig.pool.sync()
            await rig.settle()
        stats = rig.pool.stats()
        assert stats.idle == stats.total
        assert stats.total <= 5
        rig.assert_agree()

    run(scenario())


def test_minimum_is_kept_ready() -> None:
    async def scenario() -> None:
        rig = Rig(min_pool=4)
        rig.pool.kick()
        await rig.settle()
        assert rig.pool.stats().idle == 4
        await rig.add("web-0")
        await rig.settle()
        assert rig.pool.stats().idle >= 4
        rig.assert_agree()

    run(scenario())


def test_sdk_is_kept_warm_exactly_while_the_next_pod_needs_the_cloud() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=1)
        rig.pool.kick()
        assert _warm(rig)
        await rig.add("web-0")
        await rig.settle()
        assert not _warm(rig), "one address is idle"
        await rig.add("web-1")
        await rig.settle()
        assert _warm(rig)

    run(scenario())


def test_restart_finds_every_pod_with_one_call() -> None:
    async def scenario() -> None:
        rig = Rig()
        before = [(await rig.add(f"web-{i}")).record for i in range(4)]
        new = await rig.restarted()
        await new.settle()
        assert [c.action for c in new.cloud.calls] == [Action.DESCRIBE_ENIS]
        after = new.journal.book.attachments
        assert all(after[r.key].ipv4 == r.ipv4 for r in before)
        new.assert_agree()

    run(scenario())


def test_reboot_keeps_each_pods_address_for_its_new_sandbox() -> None:
    async def scenario() -> None:
        rig = Rig()
        before = {f"web-{i}": (await rig.add(f"web-{i}")).record.ipv4 for i in range(3)}
        new = await rig.restarted(reboot=True)
        states = {a.state for a in new.journal.book.attachments.values()}
        assert states == {AttachmentState.LOST}
        await new.delete("web-1")  # the runtime may delete the old sandbox first
        for name, address in before.items():
            assert (await new.add(name, container=f"again-{name}")).record.ipv4 == address
        new.assert_agree()

    run(scenario())


def test_half_done_add_and_delete_end_at_the_next_start() -> None:
    async def scenario() -> None:
        rig = Rig()
        for name in ("adding", "deleting", "ready"):
            await rig.add(name)
        records = rig.journal.book.attachments
        adding = records[AttachmentKey("c-adding", "eth0")]
        rig.journal.record(Changes(attachments=(replace(adding, state=AttachmentState.ADDING),)))
        deleting = records[AttachmentKey("c-deleting", "eth0")]
        rig.journal.record(transitions.begin_delete(deleting, rig.clock.now()))
        new = await rig.restarted()
        assert [a.pod.name for a in new.journal.book.attachments.values()] == ["ready"]
        new.assert_agree()

    run(scenario())


@pytest.mark.parametrize("recorded", [False, True])
def test_assign_that_was_cut_off_is_finished_with_the_same_token(recorded: bool) -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        now = rig.clock.now()
        operation = Operation(ClientToken("t-1"), OperationKind.ASSIGN, now, eni.eni_id, ipv4_count=3)
        rig.journal.record(transitions.begin_operation(operation))
        if recorded:
            await rig.cloud.assign_ipv4(eni.eni_id, 3, operation.token)
        new = await rig.restarted()
        await new.settle()
        assert new.pool.stats().total == 9
        new.assert_agree()

    run(scenario())


def test_release_that_was_cut_off_is_finished() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        await rig.delete("web-0")
        (eni,) = rig.journal.book.enis.values()
        addresses = tuple(r.address for r in rig.journal.book.of_eni(eni.eni_id))
        operation = Operation(
            ClientToken("t"), OperationKind.RELEASE_ENI, 1.0, eni.eni_id, addresses=addresses
        )
        rig.journal.record(transitions.begin_release(rig.journal.book, operation, 1.0))
        new = await rig.restarted()
        await new.settle()
        assert new.in_cloud() == frozenset()
        new.assert_agree()

    run(scenario())


def test_an_eni_stays_prepared_until_the_cloud_has_taken_it() -> None:
    """Packets to its addresses come until then, and what ends them at the node must be there."""

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        await rig.delete("web-0")
        (eni,) = rig.journal.book.enis.values()
        addresses = tuple(r.address for r in rig.journal.book.of_eni(eni.eni_id))
        operation = Operation(
            ClientToken("t"), OperationKind.RELEASE_ENI, 1.0, eni.eni_id, addresses=addresses
        )
        rig.journal.record(transitions.begin_release(rig.journal.book, operation, 1.0))
        prepared_at: list[bool] = []
        delete = rig.cloud.delete_eni

        async def watched(eni_id: EniId) -> None:
            prepared_at.append(eni.mac in rig.kernel.enis)
            await delete(eni_id)

        rig.cloud.delete_eni = watched  # type: ignore[method-assign]
        rig.pool.resume()
        await rig.settle()
        assert prepared_at == [True]
        assert eni.mac not in rig.kernel.enis

    run(scenario())


def test_eni_gone_from_cloud_and_metadata_is_forgotten_only_without_pods() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        await rig.cloud.detach_eni(eni.eni_id, rig.work._settings.instance_id)
        await rig.cloud.delete_eni(eni.eni_id)
        await rig.reconciler.all(ask_cloud=False)
        assert rig.journal.book.enis[eni.eni_id].state is EniState.FROZEN
        assert any(event.reason == "ResourceInvalid" for event in rig.kubernetes.events)
        await rig.delete("web-0")
        await rig.reconciler.all(ask_cloud=False)
        assert not rig.journal.book.enis
        assert not rig.journal.book.addresses

    run(scenario())


def test_address_unassigned_behind_our_back_is_not_handed_out() -> None:
    async def scenario() -> None:
        rig = Rig()
        attached = await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        idle = [r for r in rig.journal.book.of_eni(eni.eni_id) if not r.owner and r.address != eni.primary_ip]
        gone = [r.address for r in idle if isinstance(r.address, IPv4Address)]
        await rig.cloud.unassign_ipv4(eni.eni_id, gone)
        await rig.reconciler.all(ask_cloud=False)
        assert all(rig.journal.book.addresses[r.address].state == "frozen" for r in idle)
        assert rig.journal.book.addresses[attached.record.addresses()[0]].owner == attached.record.key

    run(scenario())


def test_addresses_the_ledger_lost_are_adopted_when_seen_twice() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        await rig.cloud.assign_ipv4(eni.eni_id, 2, ClientToken("elsewhere"))
        total = rig.pool.stats().total
        await rig.reconciler.all(ask_cloud=False)
        assert rig.pool.stats().total == total
        await rig.reconciler.all(ask_cloud=False)
        assert rig.pool.stats().total == total + 2
        rig.assert_agree()

    run(scenario())


def test_foreign_enis_are_left_alone_and_ours_with_a_lost_ledger_adopted() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        await rig.delete("web-0")
        foreign = await rig.cloud.create_eni(
            CreateEni(PODS_VSWITCH, (SecurityGroupId("sg-cluster"),), 1, 0, ClientToken("f"), tags=())
        )
        await rig.cloud.attach_eni(foreign.eni_id, rig.work._settings.instance_id)
        await rig.pool.close()
        new = Rig(account=rig.account, clock=rig.clock, ledger=MemoryLedger(), kernel=FakeKernel())
        await new.recovery.run("boot-1")
        assert foreign.eni_id not in new.journal.book.enis
        assert len(new.journal.book.enis) == 1
        assert new.pool.stats().idle == 6

    run(scenario())
