"""A node whose mode changes while pods run: each stays what it was made as, and the next one is made anew."""

from __future__ import annotations

from control.model.ids import AttachmentKey
from control.model.modes import EniKind, NetworkMode, UplinkKind
from control.store.memory import MemoryLedger
from datapath.endpoint import AppliedSlave
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run


def test_a_pod_of_yesterdays_mode_is_checked_and_ended_in_it() -> None:
    async def scenario() -> None:
        before = Rig()
        old = await before.add("old")
        now = await before.restarted(mode=NetworkMode.MACVLAN)
        new = await now.add("new")
        assert isinstance(new.applied, AppliedSlave)
        records = now.journal.book.attachments
        kept, made = records[old.record.key], records[new.record.key]
        assert (kept.mode, kept.uplink.kind) == (NetworkMode.POLICY_ROUTE, UplinkKind.SHARED_ENI)
        assert (made.mode, made.uplink.kind, made.host_link) == (NetworkMode.MACVLAN, UplinkKind.OWN_ENI, "")
        assert kept.eni_id != made.eni_id
        assert not now.attachments.check(kept.key, None)
        await now.delete("old")
        await now.delete("new")
        assert not now.kernel.endpoints
        assert not now.journal.book.attachments

    run(scenario())


def test_the_next_sandbox_of_a_pod_is_of_todays_mode() -> None:
    """Its address was one of a shared ENI, which it cannot keep on an ENI of its own."""

    async def scenario() -> None:
        before = Rig()
        old = await before.add("web")
        now = await before.restarted(mode=NetworkMode.MACVLAN)
        new = await now.add("web", container="second")
        assert new.record.ipv4 != old.record.ipv4
        assert list(now.journal.book.attachments) == [AttachmentKey("second", "eth0")]

    run(scenario())


def test_the_next_sandbox_has_the_pods_own_eni_once_the_older_one_is_gone() -> None:
    """Two sandboxes cannot have it at once; while the older lives the newer gets another."""

    async def scenario() -> None:
        rig = Rig(mode=NetworkMode.MACVLAN)
        first = await rig.add("web", container="first")
        second = await rig.add("web", container="second")
        assert second.record.uplink != first.record.uplink
        assert [a.key.container_id for a in rig.journal.book.attachments.values()] == ["second"]
        rig.kernel.endpoints.clear()  # its namespace went
        third = await rig.add("web", container="third")
        assert third.record.uplink == second.record.uplink

    run(scenario())


def test_and_back_again() -> None:
    async def scenario() -> None:
        before = Rig(mode=NetworkMode.MACVLAN)
        own = await before.add("own")
        now = await before.restarted(mode=NetworkMode.POLICY_ROUTE)
        shared = await now.add("shared")
        enis = now.journal.book.enis
        assert enis[own.record.eni_id].kind is EniKind.EXCLUSIVE
        assert enis[shared.record.eni_id].kind is EniKind.SECONDARY
        assert len({own.record.eni_id, shared.record.eni_id}) == 2

    run(scenario())


def test_a_repeated_add_of_a_sandbox_without_a_record_keeps_its_mode() -> None:
    """The ledger is lost, the pod runs on an ENI of its own, and the node has another mode by now."""

    async def scenario() -> None:
        before = Rig(mode=NetworkMode.MACVLAN)
        own = await before.add("web")
        before.ledger = MemoryLedger()
        now = await before.restarted(mode=NetworkMode.POLICY_ROUTE)
        again = await now.add("web")
        assert (again.record.mode, again.record.uplink) == (NetworkMode.MACVLAN, own.record.uplink)
        assert again.record.ipv4 == own.record.ipv4

    run(scenario())
