"""A ledger that cannot be written: DEL answers all the same, and what it owes is paid later."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from cni.errors import CniError, Code
from cni.wire import Frame
from control.agent.cni.detach import Detachments
from control.agent.cni.service import CniService
from control.agent.dataplane.ports import EndpointSettings
from control.agent.main import Daemon
from control.agent.reconcile.upkeep import GRACE
from control.agent.state.faults import Faults
from control.agent.state.known import LIMITS, LIMITS_AGE, Known
from control.aliyun.actions import Action
from control.model.errors import Cause, CloudError, LedgerError, PoolExhausted, RequestError
from control.model.ids import AttachmentKey
from control.model.records import AttachmentState, Changes
from control.store.memory import MemoryLedger
from tests.unit.control_agent.rig import LIMITS as TYPE
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_review_upkeep import upkeep_of
from tests.unit.control_agent.test_use_cases import run


class Disk(MemoryLedger):
    """``full`` refuses every write, as SQLite does."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def write(self, changes: Changes) -> None:
        self._check()
        super().write(changes)

    def remember(self, fact: str, value: str) -> None:
        self._check()
        super().remember(fact, value)

    def _check(self) -> None:
        if self.full:
            raise LedgerError("database or disk is full", remedy="free space")


def service(rig: Rig) -> CniService:
    return CniService(
        attachments=rig.attachments, journal=rig.journal, kernel=rig.kernel, holds=rig.holds, mtu=1500
    )


def test_a_delete_is_answered_and_its_row_goes_later() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        stays = await rig.add("stays")
        gone = await rig.add("gone")
        disk.full = True
        await rig.delete("gone")
        await rig.delete("gone")
        assert rig.kernel.pod_links() == {stays.record.host_link: "c-stays"}
        assert rig.journal.book.addresses[gone.record.addresses()[0]].owner == gone.record.key
        assert await rig.recovery.repair() == 0, "nothing is put back for a pod that is gone"
        with pytest.raises(RequestError, match="no attachment"):
            rig.attachments.check(gone.record.key, None)
        with pytest.raises(LedgerError, match="disk is full"):
            await rig.add("new")
        await upkeep_of(rig).mend_ledger()
        assert gone.record.key in rig.journal.book.attachments
        disk.full = False
        await upkeep_of(rig).mend_ledger()
        assert set(rig.journal.book.attachments) == {stays.record.key}
        assert not rig.journal.owed
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_an_address_that_is_owed_goes_to_nobody_else() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk, max_pool=0)
        gone = await rig.add("gone")
        disk.full = True
        await rig.delete("gone")
        rig.clock.advance(3600)
        with pytest.raises(PoolExhausted, match="disk is full") as refused:
            await rig.add("new")
        assert refused.value.cause is Cause.LEDGER
        disk.full = False
        rig.clock.advance(6)
        new = await rig.add("new")
        assert not set(new.record.addresses()) & set(gone.record.addresses())
        assert not rig.journal.owed, "the first ADD that can be written pays as well"
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_the_same_sandbox_asked_for_again_is_made_again() -> None:
    """Not answered from a row whose network is gone."""

    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        await rig.add("web")
        disk.full = True
        await rig.delete("web")
        with pytest.raises(LedgerError):
            await rig.add("web")
        assert not rig.kernel.pod_links()
        disk.full = False
        again = await rig.add("web")
        assert rig.kernel.pod_links() == {again.record.host_link: "c-web"}
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_the_pods_next_sandbox_keeps_its_address() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        before = await rig.add("web", container="c-1")
        disk.full = True
        await rig.delete("web", container="c-1")
        disk.full = False
        after = await rig.add("web", container="c-2")
        assert after.record.addresses() == before.record.addresses()
        assert upkeep_of(rig)._journal.owed == set()
        await rig.delete("web", container="c-1")
        assert rig.kernel.pod_links() == {after.record.host_link: "c-2"}
        await rig.settle()
        rig.assert_agree()

    run(scenario())


@pytest.mark.parametrize("pod_is_gone", [True, False])
def test_died_before_the_row_could_go(pod_is_gone: bool) -> None:
    """The next daemon has the row and no link. Kubernetes is the second witness."""

    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        live, gone = await rig.add("live"), await rig.add("gone")
        disk.full = True
        await rig.delete("gone")
        disk.full = False
        rig = await rig.restarted()
        assert rig.journal.book.attachments[gone.record.key].state is AttachmentState.READY
        if pod_is_gone:
            rig.kubernetes.remove_pod(gone.record.pod)
        rig.clock.advance(GRACE + 1)
        await upkeep_of(rig).collect()
        left = {live.record.key} if pod_is_gone else {live.record.key, gone.record.key}
        assert set(rig.journal.book.attachments) == left
        assert rig.kernel.pod_links() == {live.record.host_link: "c-live"}

    run(scenario())


def test_a_failed_add_is_unwound_once_the_ledger_can_be_written() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        await rig.add("first")
        await rig.settle()
        setup = rig.kernel.setup

        def fills_the_disk(*args: Any) -> Any:
            disk.full = True
            return setup(*args)

        rig.kernel.setup = fills_the_disk  # type: ignore[method-assign,assignment]
        with pytest.raises(LedgerError, match="disk is full"):
            await rig.add("second")
        assert AttachmentKey("c-second", "eth0") in rig.journal.book.attachments
        disk.full = False
        await upkeep_of(rig).mend_ledger()
        rig.assert_agree()

    run(scenario())


def test_gc_takes_networks_down_without_the_ledger() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        first, second = await rig.add("first"), await rig.add("second")
        rig.kernel.endpoints.clear()
        disk.full = True
        service(rig)._collect(())
        assert rig.journal.owed == {first.record.key, second.record.key}

    run(scenario())


def test_status_says_what_every_add_would() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        status = service(rig)._status
        status()
        disk.full = True
        with pytest.raises(PoolExhausted, match="disk is full"):
            await rig.add("web")
        with pytest.raises(CniError, match="disk is full; free space") as refused:
            status()
        assert refused.value.code == Code.NOT_READY
        disk.full = False
        await upkeep_of(rig).mend_ledger()
        status()

    run(scenario())


def test_readiness_says_it_too() -> None:
    class Broken:
        def trouble(self) -> str:
            return "could not write the ledger: disk is full"

    daemon = Daemon(cast(Any, None))
    daemon._why = None
    daemon._node = cast(Any, Broken())
    assert daemon.why() == "could not write the ledger: disk is full"


def test_a_start_writes_nothing_that_is_known() -> None:
    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        pod = await rig.add("web")
        await rig.settle()
        disk.full = True
        rig = await rig.restarted()
        await rig.settle()
        assert rig.kernel.pod_links() == {pod.record.host_link: "c-web"}
        await rig.delete("web")
        assert not rig.kernel.pod_links()

    run(scenario())


def _frame(command: str, container: str) -> Frame:
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_NETNS": "/run/netns/x",
    }
    return Frame(env, b'{"cniVersion":"1.0.0","name":"terway","type":"terway"}')


@pytest.mark.parametrize("full", [False, True])
def test_delete_while_the_start_waits(full: bool) -> None:
    """For a cloud without whose limits no ADD can be served, say."""

    async def scenario() -> None:
        disk = Disk()
        rig = Rig(ledger=disk)
        await rig.add("web")
        await rig.settle()
        disk.full = full

        class Opened:
            detach = Detachments(
                journal=rig.journal,
                kernel=rig.kernel,
                holds=rig.holds,
                faults=Faults(),
                settings=EndpointSettings(),
            ).delete

        daemon = Daemon(cast(Any, None))
        daemon._opened = cast(Any, Opened())
        daemon._why = CloudError("the cloud is away", cause=Cause.UNREACHABLE, action="Describe")
        assert not daemon._decided.is_set(), "nor does it wait for the start to meet anybody"
        async with asyncio.timeout(5):
            assert await daemon.handle(_frame("DEL", "c-web"), None) == (0, b"")
            assert await daemon.handle(_frame("DEL", "c-unknown"), None) == (0, b"")
        assert not rig.kernel.pod_links()
        daemon._decided.set()
        code, answer = await daemon.handle(_frame("ADD", "c-new"), None)
        assert (code, b"the cloud is away" in answer) == (1, True)

    run(scenario())


def test_old_limits_serve_until_the_cloud_answers() -> None:
    async def scenario() -> None:
        rig = Rig()
        known = Known(rig.journal)
        assert await known.limits(rig.cloud, TYPE.instance_type) == TYPE
        rig.clock.advance(LIMITS_AGE + 1)
        rig.cloud.fail(Action.DESCRIBE_INSTANCE_TYPES, "ServiceUnavailable")
        assert await known.limits(rig.cloud, TYPE.instance_type) == TYPE
        assert known.limits_are_old()
        rig.cloud._faults.clear()
        assert await known.new_limits(rig.cloud, TYPE.instance_type) == TYPE
        assert not known.limits_are_old()
        assert "limits" in rig.ledger.load().facts[LIMITS]

    run(scenario())
