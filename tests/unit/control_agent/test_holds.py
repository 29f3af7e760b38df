"""A ledger that says less than the kernel shows: nothing that a running pod lives by is taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from control.agent.cni.service import CniService
from control.ipam import transitions
from control.model.errors import KernelError, PoolExhausted
from control.model.ids import AttachmentKey, ClientToken
from control.model.records import AttachmentState, Changes, EniState, Operation, OperationKind
from control.store.memory import MemoryLedger
from datapath.endpoint import Carrier
from tests.unit.control_agent.rig import Rig


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


async def with_pods(count: int, **options: Any) -> Rig:
    rig = Rig(**options)
    for n in range(count):
        await rig.add(f"web-{n}")
    await rig.settle()
    return rig


async def lost(rig: Rig) -> Rig:
    """The next daemon, with an empty ledger."""
    rig.ledger = MemoryLedger()
    new = await rig.restarted()
    await new.settle()
    return new


def running(rig: Rig) -> set[object]:
    return {a for e in rig.kernel.endpoints.values() for a in e.addresses()}


@pytest.mark.parametrize("dual", [False, True])
def test_lost_ledger_takes_nothing_from_running_pods(dual: bool) -> None:
    async def scenario() -> None:
        rig = await with_pods(18, dual=dual)
        before = running(rig)
        new = await lost(rig)
        assert new.journal.book.held == before
        assert len(new.holds.unrecorded) == 18
        for n in range(10):
            await new.add(f"new-{n}")
        new.clock.advance(1000)
        for _ in range(5):
            await new.reconciler.all(ask_cloud=False)
            new.pool.sync()
            await new.settle()
            new.clock.advance(200)
        addresses = [a for e in new.kernel.endpoints.values() for a in e.addresses()]
        assert len(addresses) == len(set(addresses))
        assert before < set(addresses)
        assert {a for a in before if a.version == 4} <= set(new.in_cloud())  # type: ignore[attr-defined]
        assert any("PodsNotInLedger" in event.reason for event in new.kubernetes.events)

    run(scenario())


def test_eni_without_any_record_of_its_pods_is_not_shed() -> None:
    async def scenario() -> None:
        rig = await with_pods(3, max_pool=0)
        new = await lost(rig)
        new.clock.advance(1000)
        new.pool.sync()
        await new.settle()
        assert running(new) <= set(new.in_cloud())
        assert [e.state for e in new.journal.book.enis.values()] == [EniState.SERVING]

    run(scenario())


def test_release_that_an_old_ledger_remembers_spares_what_runs() -> None:
    """Addresses and a whole ENI: intents of another day."""

    async def scenario() -> None:
        rig = await with_pods(3)
        new = await lost(rig)
        book = new.journal.book
        (eni,) = book.enis.values()
        taken = tuple(running(new))
        idle = tuple(a for a in book.addresses if a not in taken and a != eni.primary_ip)
        operation = Operation(
            ClientToken("old"),
            OperationKind.RELEASE_ADDRESSES,
            1.0,
            eni.eni_id,
            addresses=(*taken, *idle),  # type: ignore[arg-type]
        )
        new.journal.record(transitions.begin_release(book, operation, 1.0))
        new.pool.resume()
        await new.settle()
        assert new.in_cloud() == {*taken, eni.primary_ip}
        assert book.held == set(taken)
        assert not book.operations
        whole = Operation(ClientToken("whole"), OperationKind.RELEASE_ENI, 1.0, eni.eni_id)
        new.journal.record(transitions.begin_release(book, whole, 1.0))
        new.pool.resume()
        await new.settle()
        assert new.in_cloud() == {*taken, eni.primary_ip}
        assert eni.mac in new.kernel.enis
        assert book.enis[eni.eni_id].state is EniState.FROZEN
        await new.reconciler.all(ask_cloud=False)
        assert book.enis[eni.eni_id].state is EniState.SERVING

    run(scenario())


def test_a_fact_that_changes_after_the_start() -> None:
    """A link that the last look has not shown: the ADD meets it, and gets another address."""

    async def scenario() -> None:
        rig = await with_pods(1)
        (carrier,) = rig.kernel.carriers()
        (eni,) = rig.journal.book.enis.values()
        chosen = next(iter(rig.journal.book.usable(eni.eni_id, 4, rig.clock.now())))
        rig.kernel.foreign["cali0"] = replace(
            carrier, link="cali0", container_id="x", addresses=frozenset({chosen})
        )
        attached = await rig.add("web-1")
        assert attached.record.ipv4 not in (None, chosen)
        assert rig.journal.book.held == {chosen}
        rig.kernel.foreign.clear()
        rig.holds.look()
        assert chosen not in rig.journal.book.usable(eni.eni_id, 4, rig.clock.now()), "it cools first"
        rig.clock.advance(31)
        assert chosen in rig.journal.book.usable(eni.eni_id, 4, rig.clock.now())

    run(scenario())


def test_delete_of_a_pod_without_a_record_takes_it_down() -> None:
    async def scenario() -> None:
        rig = await with_pods(2)
        new = await lost(rig)
        gone = {
            a for e in new.kernel.endpoints.values() if e.container_id == "c-web-0" for a in e.addresses()
        }
        await new.delete("web-0")
        await new.delete("web-0")
        await new.delete("nobody")
        assert [e.container_id for e in new.kernel.endpoints.values()] == ["c-web-1"]
        assert not gone & new.journal.book.held
        cooling = {r.address for r in new.journal.book.cooling(new.clock.now())}
        assert gone <= cooling

    run(scenario())


def test_repeated_add_of_a_pod_without_a_record_keeps_its_address() -> None:
    async def scenario() -> None:
        rig = await with_pods(2, dual=True)
        before = {e.container_id: set(e.addresses()) for e in rig.kernel.endpoints.values()}
        new = await lost(rig)
        new.kernel.broken = "netlink"
        with pytest.raises(KernelError):
            await new.add("web-0")
        assert running(new) == before["c-web-0"] | before["c-web-1"], (
            "a failed ADD takes no running pod's link"
        )
        new.kernel.broken = ""
        attached = await new.add("web-0")
        assert set(attached.record.addresses()) == before["c-web-0"]
        assert new.journal.book.held == before["c-web-1"]
        await new.add("web-1")
        assert not new.holds.unrecorded
        await new.reconciler.all(ask_cloud=True)
        new.assert_agree()

    run(scenario())


def test_add_of_a_pod_whose_address_nobody_shows_yet_waits() -> None:
    async def scenario() -> None:
        rig = await with_pods(1)
        new = await lost(rig)
        book = new.journal.book
        new.journal.record(Changes(gone_addresses=tuple(book.addresses)))
        with pytest.raises(PoolExhausted, match="runs by link"):
            await new.add("web-0")
        assert len(new.kernel.endpoints) == 1

    run(scenario())


def test_gc_ends_what_neither_runtime_nor_kubernetes_knows() -> None:
    async def scenario() -> None:
        rig = await with_pods(3)
        new = await lost(rig)
        new.kubernetes.remove_pod(next(k for k in new.kubernetes.pods() if k.name == "web-1"))
        for listed in ({"c-web-0", "c-web-1", "c-web-2"}, {"c-web-0"}):
            new.holds.collect([AttachmentKey(one, "eth0") for one in listed])
            left = {e.container_id for e in new.kernel.endpoints.values()}
            assert left == {"c-web-0", "c-web-2"} | (listed & {"c-web-1"})
        new.kubernetes.away = True
        new.kubernetes.forget()
        new.holds.collect([])
        assert len(new.kernel.endpoints) == 2, "an API server that is away is no witness"

    run(scenario())


def test_older_copy_of_the_ledger() -> None:
    """It knows a pod that is gone, and not the one that has its address now."""

    async def scenario() -> None:
        rig = await with_pods(2)
        copy = rig.ledger.load()
        await rig.delete("web-0")
        rig.clock.advance(31)
        names = iter(f"late-{n}" for n in range(20))
        old = {a for r in copy.attachments if r.pod.name == "web-0" for a in r.addresses()}
        while not old <= running(rig):
            await rig.add(next(names))
        rig.ledger = MemoryLedger()
        rig.ledger.write(Changes(copy.enis, copy.addresses, copy.attachments, copy.operations))
        new = await rig.restarted()
        before = running(new)
        await new.delete("web-0")
        assert running(new) == before
        new.clock.advance(31)
        attached = await new.add("other")
        assert not set(attached.record.addresses()) & before
        assert len(running(new)) == len(before) + 1

    run(scenario())


def test_cni_gc_ends_them() -> None:
    async def scenario() -> None:
        rig = await with_pods(1)
        new = await lost(rig)
        new.kubernetes.remove_pods()
        service = CniService(
            attachments=new.attachments, journal=new.journal, kernel=new.kernel, holds=new.holds, mtu=1500
        )
        service._collect(())
        assert not new.kernel.endpoints

    run(scenario())


@pytest.mark.parametrize("point", ["kernel", "ledger"])
def test_failed_second_sandbox_leaves_the_first_as_it_was(point: str) -> None:
    """The pod's record, its link and its address: whether the kernel refuses, or nothing is left at all."""

    async def scenario() -> None:
        rig = await with_pods(1)
        before = rig.journal.book.attachments
        first = dict(before)
        rig.kernel.broken = "netlink"
        with pytest.raises(KernelError):
            await rig.add("web-0", container="second")
        assert dict(rig.journal.book.attachments) == first
        if point == "ledger":
            rig = await rig.restarted()
            assert dict(rig.journal.book.attachments) == first
        rig.assert_agree()
        rig.kernel.broken = ""
        attached = await rig.add("web-0", container="second")
        assert attached.record.addresses() == next(iter(first.values())).addresses()
        assert [k.container_id for k in rig.journal.book.attachments] == ["second"]
        await rig.delete("web-0")
        rig.assert_agree()

    run(scenario())


def test_crash_in_the_middle_of_a_second_sandbox_gives_the_address_back() -> None:
    async def scenario() -> None:
        rig = await with_pods(1)
        book = rig.journal.book
        (first,) = book.attachments.values()
        second = replace(
            first, key=AttachmentKey("second", "eth0"), state=AttachmentState.ADDING, since=rig.clock.now()
        )
        rig.journal.record(transitions.reserve(book, second))
        new = await rig.restarted()
        assert list(new.journal.book.attachments) == [first.key]
        new.assert_agree()

    run(scenario())


def test_a_pod_whose_link_is_gone_is_told_until_it_is_made_anew() -> None:
    """By the pod's event and by ``terway-cli mode``; not at the first look, when a DEL may be under way."""

    async def scenario() -> None:
        rig = await with_pods(2)
        record = next(r for r in rig.journal.book.attachments.values() if r.pod.name == "web-0")
        endpoint = rig.kernel.endpoints.pop(record.host_link)
        rig.holds.miss()
        assert not rig.holds.cut_off
        for _ in range(2):
            rig.holds.miss()
            assert rig.holds.cut_off == (record,)
        told = [(e.about, f"{e.kind}: {e.message}") for e in rig.kubernetes.events if e.reason == "LinkGone"]
        assert len(told) == 1
        assert "web-0" in told[0][0]
        assert f"link {record.host_link} of pod" in told[0][1]
        rig.kernel.endpoints[record.host_link] = endpoint
        rig.holds.miss()
        assert not rig.holds.cut_off
        rig.kernel.endpoints.clear()
        for _ in range(2):
            rig.holds.miss()
        assert len(rig.holds.cut_off) == 2

    run(scenario())


def test_a_link_that_comes_and_goes_is_no_storm_of_events() -> None:
    """A hand that alters a link of ours and puts it back, again and again; the last state is told."""

    async def scenario() -> None:
        rig = await with_pods(1)
        strange = Carrier("calistrange", "02:00:00:00:00:09", "x" * 64, frozenset())
        for _ in range(50):
            for there in ({"calistrange": strange}, {}):
                rig.kernel.foreign = dict(there)
                rig.clock.advance(2)
                rig.holds.look()
        told = [e for e in rig.kubernetes.events if e.reason in ("PodsNotInLedger", "PodsInLedger")]
        assert told
        assert sum(event.count for event in told) <= 8
        rig.kernel.foreign = {"calistrange": strange}
        before = sum(e.count for e in told)
        for _ in range(40):
            rig.clock.advance(10)
            rig.holds.look()
        told = [e for e in rig.kubernetes.events if e.reason in ("PodsNotInLedger", "PodsInLedger")]
        assert sum(event.count for event in told) == before + 1
        assert "calistrange" in told[0].message

    run(scenario())


def test_a_round_that_fails_sees_who_runs_without_a_record_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        rig = await with_pods(1)
        gone = next(iter(rig.journal.book.attachments))
        rig.journal.record(Changes(gone_attachments=(gone,)))

        async def refused(endpoints: object) -> tuple[()]:
            del endpoints
            raise KernelError("list rules: no buffer space")

        monkeypatch.setattr(rig.kernel, "repair", refused)
        with pytest.raises(KernelError, match="no buffer space"):
            await rig.recovery.repair()
        assert [one.container_id for one in rig.holds.unrecorded] == [gone.container_id]

    run(scenario())
