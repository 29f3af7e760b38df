"""Pods of two modes on one node: made, checked, kept over a restart in another mode, collected, torn down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from cni.conf import Attachment
from control.agent.cni.service import CniService
from control.agent.dataplane.ports import endpoint_of
from control.agent.mode import BUILT
from control.agent.reconcile import upkeep
from control.ipam import transitions
from control.model.errors import AddressInUse, KernelError, PoolExhausted
from control.model.ids import AttachmentKey
from control.model.modes import UPLINK_OF, EniKind, NetworkMode, UplinkKind
from control.model.records import AddressState, AttachmentRecord, AttachmentState, Changes, Ended
from datapath.endpoint import AppliedSlave, AppliedVeth, EndpointKey, Mode, OwnEni, SharedEni
from datapath.modes.table import MODES
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_review_upkeep import upkeep_of

OWN, SHARED = NetworkMode.MACVLAN, NetworkMode.POLICY_ROUTE


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def kinds(rig: Rig) -> list[EniKind]:
    return sorted(eni.kind for eni in rig.journal.book.enis.values())


def mode_of(rig: Rig, name: str) -> NetworkMode:
    return record_of(rig, name).mode


def record_of(rig: Rig, name: str) -> AttachmentRecord:
    return next(r for r in rig.journal.book.attachments.values() if r.pod.name == name)


def test_words_of_modes_are_the_ledgers() -> None:
    """``datapath`` has value types of its own with the words that the ledger stores."""
    assert {one.value for one in Mode} <= {one.value for one in NetworkMode}


def test_the_ledgers_table_of_modes_says_what_the_datapath_does() -> None:
    """A new mode is a line in each; who forgets one hears of it here."""
    uplinks = {UplinkKind.SHARED_ENI: SharedEni, UplinkKind.OWN_ENI: OwnEni}
    assert {word: {uplinks[kind]} for word, kind in UPLINK_OF.items()} == {
        word: set(mode.uplinks) for word, mode in MODES.items()
    }
    assert set(MODES) == set(Mode)
    assert set(BUILT.values()) == set(UPLINK_OF)


def test_a_pod_has_an_eni_for_itself() -> None:
    async def scenario() -> None:
        rig = Rig(mode=OWN)
        one, other = await rig.add("one"), await rig.add("other")
        for attached in (one, other):
            assert isinstance(attached.applied, AppliedSlave)
            assert attached.record.host_link == ""
            assert attached.record.uplink.kind is UplinkKind.OWN_ENI
            assert attached.record.mode is OWN
        assert one.record.eni_id != other.record.eni_id
        assert kinds(rig) == [EniKind.EXCLUSIVE, EniKind.EXCLUSIVE]
        await rig.settle()
        assert rig.attachments.check(one.record.key, 0) == ()
        await rig.delete("one")
        assert set(kinds(rig)) == {EniKind.EXCLUSIVE}, "it waits for the next pod of its kind"
        assert set(rig.kernel.endpoints) == {other.eni.mac}

    run(scenario())


def test_pods_that_share_are_never_put_on_a_pods_own_eni() -> None:
    async def scenario() -> None:
        rig = Rig(mode=OWN)
        own = await rig.add("own")
        await rig.settle()
        rig = await rig.restarted(mode=SHARED)
        for n in range(4):
            shares = await rig.add(f"shares-{n}")
            assert shares.record.eni_id != own.record.eni_id
            assert isinstance(shares.applied, AppliedVeth)
        await rig.settle()

    run(scenario())


def test_no_more_enis_than_the_node_may_have() -> None:
    async def scenario() -> None:
        rig = Rig(mode=OWN)
        for n in range(3):
            await rig.add(f"pod-{n}")
        with pytest.raises(PoolExhausted, match="for this pod alone"):
            await rig.add("one-too-many")
        assert len(rig.journal.book.attachments) == 3
        await rig.settle()

    run(scenario())


@pytest.mark.parametrize(("before", "after"), [(OWN, SHARED), (SHARED, OWN)])
def test_yesterdays_pods_stay_in_yesterdays_mode(before: NetworkMode, after: NetworkMode) -> None:
    """The ConfigMap says another mode, and the agent is restarted: pods that run are not touched by that."""

    async def scenario() -> None:
        rig = Rig(mode=before)
        old = (await rig.add("old")).record
        await rig.settle()
        rig = await rig.restarted(mode=after)
        new = (await rig.add("new")).record
        assert (mode_of(rig, "old"), new.mode) == (before, after)
        assert rig.attachments.check(old.key, 0) == ()
        assert rig.attachments.check(new.key, 0) == ()
        assert await rig.recovery.repair() == 0
        again = await rig.add("old")  # the runtime repeats its ADD
        assert (again.record.mode, again.record.addresses()) == (before, old.addresses())
        rig = await rig.restarted(mode=after)
        await rig.delete("old")
        await rig.settle()
        assert [str(e.mode) for e in rig.kernel.endpoints.values()] == [after.value]
        assert rig.attachments.check(new.key, 0) == ()
        await rig.delete("new")
        await rig.settle()
        assert not rig.kernel.endpoints
        assert set(kinds(rig)) == {EniKind.EXCLUSIVE, EniKind.SECONDARY}, "neither became the other's"

    run(scenario())


@pytest.mark.parametrize(("before", "after"), [(OWN, SHARED), (SHARED, OWN), (OWN, OWN)])
def test_a_second_sandbox_ends_the_first_in_its_mode(before: NetworkMode, after: NetworkMode) -> None:
    async def scenario() -> None:
        rig = Rig(mode=before)
        await rig.add("web", container="first")
        await rig.settle()
        rig = await rig.restarted(mode=after)
        second = await rig.add("web", container="second")
        await rig.settle()
        assert [r.key for r in rig.journal.book.attachments.values()] == [second.record.key]
        assert [e.container_id for e in rig.kernel.endpoints.values()] == ["second"]
        assert second.record.mode is after

    run(scenario())


def test_after_a_reboot_the_pod_has_its_own_address_again() -> None:
    async def scenario() -> None:
        rig = Rig(mode=OWN)
        before = await rig.add("web", container="first")
        await rig.settle()
        rig = await rig.restarted(reboot=True)
        assert record_of(rig, "web").state is AttachmentState.LOST
        after = await rig.add("web", container="second")
        assert after.record.addresses() == before.record.addresses()

    run(scenario())


def test_a_sandbox_without_a_record_keeps_mode_and_address() -> None:
    """A ledger that was lost: the ENI says whose it is. Its repeated ADD finds it, whatever the mode."""

    async def scenario() -> None:
        rig = Rig(mode=OWN)
        before = await rig.add("web")
        await rig.settle()
        record = before.record
        rig = await rig.restarted(mode=SHARED)
        rig.journal.record(_forgotten(rig, record))
        rig.holds.look()
        assert rig.journal.book.held == set(record.addresses())
        again = await rig.add("web")
        assert again.record.addresses() == record.addresses()
        assert again.record.mode is OWN
        assert again.record.host_link == ""
        await rig.settle()
        assert rig.attachments.check(record.key, 0) == ()

    run(scenario())


def _forgotten(rig: Rig, record: AttachmentRecord) -> Changes:
    return transitions.finish_delete(rig.journal.book, record, rig.journal.now(), Ended.DELETED)


# The kernel's word, which is three-valued


@pytest.mark.parametrize("mode", [OWN, SHARED])
def test_who_cannot_be_looked_at_is_not_freed(mode: NetworkMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server says that the pod is gone; the kernel cannot say, and that is no second witness."""
    monkeypatch.setattr(upkeep, "GRACE", 0.0)

    async def scenario() -> None:
        rig = Rig(mode=mode)
        record = (await rig.add("web")).record
        await rig.settle()
        rig.kubernetes.remove_pod(record.pod)
        rig.kernel.endpoints.clear()
        key = EndpointKey(record.key.container_id, record.key.ifname)
        rig.kernel.unseen[key] = "EMFILE"
        await upkeep_of(rig).collect()
        assert record.key in rig.journal.book.attachments
        rig.kernel.unseen.clear()
        await upkeep_of(rig).collect()
        assert record.key not in rig.journal.book.attachments
        await rig.settle()

    run(scenario())


@pytest.mark.parametrize("mode", [OWN, SHARED])
def test_the_api_servers_word_alone_frees_nobody(mode: NetworkMode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "GRACE", 0.0)

    async def scenario() -> None:
        rig = Rig(mode=mode)
        record = (await rig.add("web")).record
        await rig.settle()
        rig.kubernetes.remove_pod(record.pod)
        await upkeep_of(rig).collect()
        assert record.key in rig.journal.book.attachments

    run(scenario())


@pytest.mark.parametrize("mode", [OWN, SHARED])
def test_a_pod_that_the_kernel_has_lost_is_told(mode: NetworkMode) -> None:
    async def scenario() -> None:
        rig = Rig(mode=mode)
        record = (await rig.add("web")).record
        await rig.settle()
        rig.holds.miss()
        rig.holds.miss()
        assert not rig.holds.cut_off, "it has no host link, and is not cut off for that"
        rig.kernel.endpoints.clear()
        rig.holds.miss()
        rig.holds.miss()
        assert [r.key for r in rig.holds.cut_off] == [record.key]
        (told,) = [one.message for one in rig.kubernetes.events if one.reason == "LinkGone"]
        assert "link  of" not in told

    run(scenario())


FUTURE = [
    (NetworkMode.IPVLAN, UplinkKind.SHARED_ENI),
    (NetworkMode("from-the-future"), UplinkKind.OWN_ENI),
    (NetworkMode.POLICY_ROUTE, UplinkKind("from-the-future")),
]


@pytest.mark.parametrize(("mode", "kind"), FUTURE)
def test_a_pod_of_another_releases_mode_is_told_and_can_be_deleted(
    mode: NetworkMode, kind: UplinkKind
) -> None:
    """It runs as it is, in whatever way: nothing is made or mended of it, and no verb fails for it."""

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web")
        await rig.add("other")
        await rig.settle()
        record, other = record_of(rig, "web"), record_of(rig, "other")
        made = replace(record, mode=mode, uplink=replace(record.uplink, kind=kind))
        rig.journal.record(Changes(attachments=(made,)))
        for _ in range(3):
            assert await rig.recovery.repair() == 0
        told = [e for e in rig.kubernetes.events if "default/web" in e.message and str(mode) in e.message]
        assert len(told) == 1, "by an event, once"
        (difference,) = rig.attachments.check(record.key, 0)
        assert str(mode) in difference.found
        with pytest.raises(KernelError, match="delete the pod"):
            await rig.add("web")
        assert rig.attachments.check(other.key, 0) == ()
        rig = await rig.restarted()
        assert rig.journal.book.attachments[record.key] == made
        await rig.delete("web")
        address = rig.journal.book.addresses[record.addresses()[0]]
        assert (address.state, address.owner) == (AddressState.FREE, None)
        assert [e.container_id for e in rig.kernel.endpoints.values()] == ["c-other"]

    run(scenario())


@pytest.mark.parametrize(("mode", "kind"), FUTURE)
def test_a_pod_of_another_releases_mode_is_collected_when_it_is_gone(
    mode: NetworkMode, kind: UplinkKind
) -> None:
    """From the kernel too, and not while that cannot say."""

    async def scenario() -> None:
        rig = Rig()
        service = CniService(
            attachments=rig.attachments, journal=rig.journal, kernel=rig.kernel, holds=rig.holds, mtu=1500
        )
        await rig.add("web")
        await rig.settle()
        record = record_of(rig, "web")
        made = replace(record, mode=mode, uplink=replace(record.uplink, kind=kind))
        rig.journal.record(Changes(attachments=(made,)))
        service._collect(())
        assert record.key in rig.journal.book.attachments, "it runs"
        rig.kernel.endpoints.clear()
        key = EndpointKey(record.key.container_id, record.key.ifname)
        rig.kernel.unseen[key] = "closed"
        service._collect(())
        assert record.key in rig.journal.book.attachments
        del rig.kernel.unseen[key]
        service._collect(())
        assert record.key not in rig.journal.book.attachments

    run(scenario())


def test_an_eni_that_another_has_is_not_taken() -> None:
    """What the fake says here the kernel says too: ``tests/contract/kernel``."""

    async def scenario() -> None:
        rig = Rig(mode=OWN)
        attached = await rig.add("web")
        endpoint = endpoint_of(attached.record, attached.eni, rig.attachments._settings)
        with pytest.raises(AddressInUse):
            rig.kernel.setup(replace(endpoint, container_id="other"), 0)
        assert AttachmentKey("c-web", "eth0") in rig.journal.book.attachments
        await rig.settle()

    run(scenario())


@pytest.mark.parametrize("mode", [OWN, SHARED])
def test_gc_frees_what_is_gone_and_nothing_that_cannot_be_looked_at(mode: NetworkMode) -> None:
    """A runtime that lists nothing is one witness; the kernel's "unknown" is not the second."""

    async def scenario() -> None:
        rig = Rig(mode=mode)
        service = CniService(
            attachments=rig.attachments, journal=rig.journal, kernel=rig.kernel, holds=rig.holds, mtu=1500
        )
        record = (await rig.add("web")).record
        await rig.settle()
        service._collect(())
        assert record.key in rig.journal.book.attachments, "it lives"
        endpoints = dict(rig.kernel.endpoints)
        rig.kernel.endpoints.clear()
        key = EndpointKey(record.key.container_id, record.key.ifname)
        rig.kernel.unseen[key] = "EACCES"
        service._collect(())
        assert record.key in rig.journal.book.attachments, "nobody knows"
        rig.kernel.unseen.clear()
        service._collect((Attachment(record.key.container_id, record.key.ifname),))
        assert record.key in rig.journal.book.attachments, "the runtime lists it"
        service._collect(())
        assert record.key not in rig.journal.book.attachments
        assert endpoints
        await rig.settle()

    run(scenario())


def test_nobody_is_told_to_delete_an_eni() -> None:
    """What runs without a record is named by its link; without one on the host that is the ENI."""

    async def scenario() -> None:
        rig = Rig(mode=OWN)
        record = (await rig.add("web")).record
        await rig.settle()
        rig.journal.record(_forgotten(rig, record))
        rig.holds.look()
        (told,) = [event.message for event in rig.kubernetes.events if event.reason == "PodsNotInLedger"]
        assert "of its own" in told
        assert "an ENI is given back by itself" in told

    run(scenario())
