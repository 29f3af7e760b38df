"""A lost ledger while the cloud is away: nothing new is made before it is known which ENIs the node has."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from control.aliyun.actions import Action
from control.aliyun.errors import Refusal, Transport
from control.model.errors import Cause, MetadataError, PoolExhausted
from control.model.modes import NetworkMode
from control.store.memory import MemoryLedger
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_rebuild import story, with_pods
from tests.unit.control_agent.test_use_cases import run

_REFUSALS = {
    "silent": Refusal(transport=Transport.CONNECT_TIMEOUT),
    "5xx": Refusal(code="ServiceUnavailable", status=503),
    "no right": Refusal(code="Forbidden.RAM", status=403),
}


async def _without_ledger(rig: Rig) -> Rig:
    """The next daemon on the node, not started yet."""
    await rig.watch.close()
    await rig.allocators.close()
    rig.ledger = MemoryLedger()
    rig.ledger.remember("nothing", "of this node")
    return replace(rig)


def _made(rig: Rig) -> int:
    return rig.cloud.count(Action.CREATE_ENI) + rig.cloud.count(Action.ASSIGN_IPV4)


async def _answered(rig: Rig) -> None:
    """Time goes by until somebody has said what there is."""
    async with asyncio.timeout(60):
        while rig.runner.on_hold:
            rig.timers.advance(1)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("mode", [NetworkMode.POLICY_ROUTE, NetworkMode.MACVLAN])
@pytest.mark.parametrize("refusal", _REFUSALS)
def test_a_node_whose_enis_nobody_has_named_makes_none(refusal: str, mode: NetworkMode) -> None:
    """An ENI of ours without a pod: nothing on the node tells whose it is. Then the cloud does."""

    async def scenario() -> None:
        rig = Rig(mode=mode)
        await rig.add("first")
        await rig.settle()
        await rig.delete("first")
        new = await _without_ledger(rig)
        before = len(new.in_cloud())
        new.cloud.fail_with(Action.DESCRIBE_ENIS, _REFUSALS[refusal], times=2)
        await new.recovery.run("boot-1")
        with pytest.raises(PoolExhausted, match=r"next try in 5 s"):
            await new.add("web")
        new.clock.advance(6)  # the hold-off is over, and nobody has asked again
        adding = asyncio.ensure_future(new.add("late"))
        await asyncio.sleep(0.01)
        assert not _made(new)
        await _answered(new)
        await asyncio.gather(adding, return_exceptions=True)
        assert new.rebuild.asked
        await new.add("web")
        assert not _made(new)
        assert len(new.in_cloud()) == before

    run(scenario())


def test_metadata_that_is_silent_names_none_either() -> None:
    async def scenario() -> None:
        rig = await with_pods(3)
        before, enis = story(rig), rig.in_cloud()
        new = await _without_ledger(rig)
        new.metadata.failure = MetadataError("silent", cause=Cause.METADATA)
        await new.recovery.run("boot-1")
        with pytest.raises(PoolExhausted):
            await new.add("web")
        new.metadata.failure = None
        new.clock.advance(6)
        adding = asyncio.ensure_future(new.add("late"))
        await asyncio.sleep(0.01)
        assert not _made(new)
        await _answered(new)
        assert new.rebuild.run() == 3
        assert story(new).items() >= before.items()
        await asyncio.gather(adding, return_exceptions=True)
        assert new.cloud.count(Action.CREATE_ENI) == 0
        assert new.in_cloud() >= enis

    run(scenario())


def test_an_eni_that_metadata_does_not_show_whole_is_waited_for() -> None:
    """The cloud has named it, and its addresses are not known: another one is not made meanwhile."""

    async def scenario() -> None:
        rig = Rig(max_pool=3)
        await rig.add("first")
        await rig.settle()
        new = await _without_ledger(rig)
        whole = new.metadata.eni
        silent = MetadataError("silent", cause=Cause.METADATA)

        async def broken(*_: object, **__: object) -> None:
            raise silent

        new.metadata.eni = broken  # type: ignore[method-assign]
        new.work.witnesses._metadata = new.metadata
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("control.agent.allocation.witnesses.SILENCE_TIMEOUT", 0.0)
            await new.recovery.run("boot-1")
            adding = asyncio.ensure_future(new.add("late"))
            await asyncio.sleep(0.01)
            assert not _made(new)
        new.metadata.eni = whole  # type: ignore[method-assign]
        await _answered(new)
        await asyncio.gather(adding, return_exceptions=True)
        await new.add("late")
        assert new.cloud.count(Action.CREATE_ENI) == 0

    run(scenario())


@pytest.mark.parametrize("dual", [False, True])
def test_what_metadata_and_kernel_show_serves_while_the_cloud_is_away(dual: bool) -> None:
    """An ENI that a running pod leans on is ours by the kernel's word, its addresses are metadata's."""

    async def scenario() -> None:
        rig = Rig(dual=dual, max_pool=5)
        for n in range(3):
            await rig.add(f"web-{n}")
        await rig.settle()
        for record in rig.journal.book.attachments.values():
            pod = rig.kubernetes.pods()[record.pod]
            rig.kubernetes.put_pod(replace(pod, addresses=record.addresses()))
        before, taken = story(rig), {a for r in rig.journal.book.attachments.values() for a in r.addresses()}
        new = await _without_ledger(rig)
        new.cloud.fail_with(Action.DESCRIBE_ENIS, _REFUSALS["silent"], times=99)
        await new.recovery.run("boot-1")
        assert story(new) == before
        served = await new.add("late")
        assert not taken & set(served.record.addresses())
        assert not _made(new)
        assert new.rebuild.going_on(), "the cloud may know more"
        new.cloud._faults.clear()
        await _answered(new)
        new.rebuild.run()
        assert not new.rebuild.going_on()
        await new.reconciler.all(ask_cloud=True)
        await new.reconciler.all(ask_cloud=True)
        new.assert_agree()

    run(scenario())


def test_an_own_eni_of_a_running_pod_is_not_shared_while_the_cloud_is_away() -> None:
    async def scenario() -> None:
        rig = Rig(mode=NetworkMode.MACVLAN)
        await rig.add("own")
        await rig.settle()
        new = await _without_ledger(rig)
        new.mode = NetworkMode.POLICY_ROUTE
        new.__post_init__()
        new.cloud.fail_with(Action.DESCRIBE_ENIS, _REFUSALS["silent"], times=99)
        await new.recovery.run("boot-1")
        with pytest.raises(PoolExhausted):
            await new.add("web")
        assert not _made(new)

    run(scenario())


def test_a_ledger_that_knows_every_eni_waits_for_no_cloud() -> None:
    """Only DescribeNetworkInterfaces is refused: an address on a known ENI can be had all the same."""

    async def scenario() -> None:
        rig = await with_pods(1)
        await rig.settle()
        await rig.allocators.close()
        new = replace(rig)
        new.cloud.fail_with(Action.DESCRIBE_ENIS, _REFUSALS["no right"], times=99)
        await new.recovery.run("boot-1")
        assert not new.runner.on_hold
        await new.add("more")
        assert new.cloud.count(Action.ASSIGN_IPV4) == 1

    run(scenario())


def test_a_new_node_asks_for_its_first_eni_at_once() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.cloud.fail_with(Action.DESCRIBE_ENIS, _REFUSALS["silent"])
        await rig.recovery.run("boot-1")
        assert not rig.runner.on_hold

    run(scenario())


def test_a_cloud_that_is_slow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter asks seven times before it says that nobody answers. What it says then counts as well."""
    monkeypatch.setattr("control.agent.reconcile.enis.CLOUD_PATIENCE", 0.0)
    monkeypatch.setattr("control.agent.reconcile.recovery.WITNESSES_TIMEOUT", 0.2)

    async def scenario() -> None:
        rig = await with_pods(3)
        before, enis = story(rig), dict(rig.journal.book.enis)
        assert all(eni.security_groups for eni in enis.values())
        new = await _without_ledger(rig)
        gate = new.cloud.hold(Action.DESCRIBE_ENIS)
        await new.recovery.run("boot-1")
        assert story(new) == before
        assert new.runner.on_hold
        gate.set()
        await _answered(new)
        assert {i: replace(e, since=0.0) for i, e in new.journal.book.enis.items()} == {
            i: replace(e, since=0.0) for i, e in enis.items()
        }

    run(scenario())


def test_a_rule_that_leads_to_somebodys_eni_makes_it_not_ours() -> None:
    """Numbers of links are used again: a pod's old rule names the table of an ENI that was plugged since."""

    async def scenario() -> None:
        rig = await with_pods(2)
        new = await _without_ledger(rig)
        (eni,) = {e.mac for e in rig.journal.book.enis.values()}
        strange = [replace(c, addresses=frozenset({IPv4Address("10.9.9.9")})) for c in rig.kernel.carriers()]
        rig.kernel.endpoints.clear()
        rig.kernel.foreign = {c.link: c for c in strange}
        assert all(eni in c.enis for c in strange)
        new.cloud.fail_with(Action.DESCRIBE_ENIS, _REFUSALS["silent"], times=99)
        await new.recovery.run("boot-1")
        assert not new.journal.book.enis
        with pytest.raises(PoolExhausted):
            await new.add("web")

    run(scenario())
