"""An ENI that an ADD has shown to be broken carries no new pod; no pod can take a sound one out of use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from control.agent.cni.attach import Attached
from control.agent.reconcile import broken as broken_watch
from control.aliyun.actions import Action
from control.ipam.rejections import FIRST_HOLD_OFF, MAX_HOLD_OFF, of_uplink
from control.model.errors import Cause, KernelError, PoolExhausted, RequestError, UplinkBroken
from control.model.ids import EniId, Mac
from control.model.records import EniRecord, EniState
from datapath.endpoint import Applied, Endpoint, SharedEni
from tests.unit.control_agent.rig import NODE, Rig
from tests.unit.control_agent.test_use_cases import run


async def _only_eni(rig: Rig, pods: int = 1) -> EniRecord:
    for i in range(pods):
        await rig.add(f"old-{i}")
    await rig.settle()
    (eni,) = rig.journal.book.enis.values()
    return eni


def _eni_of(attached: Attached) -> EniId:
    return attached.record.eni_id


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def _detach(rig: Rig, eni: EniRecord) -> None:
    """A hand at the console, and the device is gone."""
    assert rig.account is not None
    await rig.cloud.detach_eni(eni.eni_id, NODE.instance_id)
    rig.kernel.unplug(eni.mac)


def test_the_add_that_finds_an_eni_gone_gets_another_one_in_the_same_call() -> None:
    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        await _detach(rig, broken)
        added = [await rig.add(f"web-{i}") for i in range(8)]
        assert broken.eni_id not in {_eni_of(a) for a in added}
        assert rig.journal.book.enis[broken.eni_id].state is EniState.FROZEN, "a pod is on it: it is kept"
        assert "no longer show" in rig.journal.book.enis[broken.eni_id].reason, (
            "cloud and metadata were asked"
        )
        assert sum(e.count for e in rig.kubernetes.events if e.reason == "EniBroken") == 1
        await rig.watch.close()

    run(scenario())


def test_without_pods_it_is_forgotten_at_once_and_its_place_is_free() -> None:
    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        await rig.delete("old-0")
        await _detach(rig, broken)
        await rig.add("web")
        await _until(lambda: broken.eni_id not in rig.journal.book.enis)
        await rig.watch.close()

    run(scenario())


def test_a_device_that_is_back_serves_without_waiting_for_a_round() -> None:
    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        rig.kernel.unplug(broken.mac)  # cloud and metadata go on showing it
        other = await rig.add("web")
        assert _eni_of(other) != broken.eni_id
        assert rig.journal.book.enis[broken.eni_id].state is EniState.FROZEN
        rig.kernel.plug(broken.mac)
        await _until(lambda: rig.journal.book.enis[broken.eni_id].state is EniState.SERVING)
        rig.clock.advance(FIRST_HOLD_OFF + 1)
        await rig.delete("old-0")
        assert _eni_of(await rig.add("old-0", container="again")) == broken.eni_id
        await rig.watch.close()

    run(scenario())


def test_flapping_is_held_off_longer_each_time_and_bounded() -> None:
    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        held: list[float] = []
        for _ in range(5):
            rig.kernel.unplug(broken.mac)
            rig.broken.failed(broken.eni_id, UplinkBroken("a packet goes elsewhere"))
            rejection = rig.rejections.active(of_uplink(broken.eni_id), rig.clock.now())
            assert rejection is not None
            held.append(rejection.seconds)
            rig.kernel.plug(broken.mac)
            await _until(lambda: rig.journal.book.enis[broken.eni_id].state is EniState.SERVING)
            rig.clock.advance(held[-1] + 1)
        assert held == sorted(held)
        assert held[0] == FIRST_HOLD_OFF
        assert held[-1] == MAX_HOLD_OFF
        await rig.watch.close()

    run(scenario())


def test_an_eni_that_could_be_made_ready_again_serves_the_same_add() -> None:
    """Somebody has flushed its table: what is missing is put back, and nobody is turned away."""

    async def scenario() -> None:
        rig = Rig()
        eni = await _only_eni(rig)
        rig.kernel.misrouted.add(eni.mac)
        prepare = rig.kernel.prepare_uplink

        def prepare_and_mend(uplink: SharedEni) -> None:
            prepare(uplink)
            rig.kernel.misrouted.clear()

        rig.kernel.prepare_uplink = prepare_and_mend  # type: ignore[method-assign]
        calls = rig.cloud.count(Action.CREATE_ENI)
        attached = await rig.add("web")
        assert _eni_of(attached) == eni.eni_id
        assert rig.cloud.count(Action.CREATE_ENI) == calls
        assert not rig.rejections.all(rig.clock.now())

    run(scenario())


def test_an_eni_that_is_whole_and_led_away_from_is_held_off_and_not_frozen() -> None:
    async def scenario() -> None:
        rig = Rig()
        eni = await _only_eni(rig)
        rig.kernel.misrouted.add(eni.mac)
        attached = await rig.add("web")
        assert _eni_of(attached) != eni.eni_id
        assert rig.journal.book.enis[eni.eni_id].state is EniState.SERVING
        assert rig.rejections.held_off(rig.clock.now(), of_uplink(eni.eni_id))
        rig.kernel.misrouted.clear()
        rig.clock.advance(FIRST_HOLD_OFF + 1)
        assert not rig.rejections.held_off(rig.clock.now(), of_uplink(eni.eni_id))

    run(scenario())


@pytest.mark.parametrize(
    "error", [KernelError("no space"), RequestError("eth0 is taken", cause=Cause.REQUEST)]
)
def test_a_pod_that_makes_its_own_add_fail_takes_no_eni_out_of_use(error: Exception) -> None:
    """Its namespace is broken, or its name is taken: nothing of that is said of an ENI."""

    async def scenario() -> None:
        rig = Rig()
        eni = await _only_eni(rig)
        setup = rig.kernel.setup

        def refuse(endpoint: Endpoint, netns: int) -> Applied:
            if endpoint.container_id == "c-hostile":
                raise error
            return setup(endpoint, netns)

        rig.kernel.setup = refuse  # type: ignore[method-assign]
        for _ in range(20):
            with pytest.raises(type(error)):
                await rig.add("hostile")
        assert not rig.rejections.all(rig.clock.now())
        assert rig.journal.book.enis[eni.eni_id].state is EniState.SERVING
        assert _eni_of(await rig.add("web")) == eni.eni_id

    run(scenario())


def test_all_enis_broken_and_none_to_be_had_is_told_with_the_cause() -> None:
    async def scenario() -> None:
        rig = Rig()
        await asyncio.gather(*(rig.add(f"old-{i}") for i in range(40)))
        await rig.settle()
        assert len(rig.journal.book.enis) == 3, "all that the instance may have"
        for eni in rig.journal.book.enis.values():
            rig.kernel.unplug(eni.mac)
        with pytest.raises(PoolExhausted, match=r"no pod can be put on ENI eni-.*no link has MAC") as told:
            await rig.add("web")
        assert told.value.cause is Cause.KERNEL
        assert told.value.retry_after is not None
        rig.clock.advance(MAX_HOLD_OFF + 1)
        with pytest.raises(PoolExhausted, match=r"ENI eni-.* serves nobody new: "):
            await rig.add("web")
        assert rig.pool.stats().waiting == 0
        assert {a.state.value for a in rig.journal.book.attachments.values()} == {"ready"}
        await rig.watch.close()

    run(scenario())


def test_addresses_that_cool_on_a_broken_eni_are_nobodys_and_cool_on_when_it_is_back() -> None:
    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig, pods=6)
        await rig.delete("old-5")
        assert rig.pool.stats().cooling == 1
        rig.kernel.unplug(broken.mac)
        other = await rig.add("web")
        assert _eni_of(other) != broken.eni_id
        assert rig.pool.stats().cooling == 0
        back = await rig.add("old-5", container="again")
        assert _eni_of(back) != broken.eni_id, "nor does its own last pod get it"
        rig.kernel.plug(broken.mac)
        await _until(lambda: rig.journal.book.enis[broken.eni_id].state is EniState.SERVING)
        rig.clock.advance(FIRST_HOLD_OFF + 1)
        assert rig.pool.stats().cooling == 1
        await rig.watch.close()

    run(scenario())


def test_a_pods_next_sandbox_leaves_a_broken_eni_with_its_address() -> None:
    """Its running sandbox has the address until then, and the new one could not use it."""

    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        rig.kernel.unplug(broken.mac)
        again = await rig.add("old-0", container="second")
        assert _eni_of(again) != broken.eni_id
        assert [a.key.container_id for a in rig.journal.book.attachments.values()] == ["second"]
        await rig.watch.close()

    run(scenario())


def test_a_restart_knows_it_and_takes_it_back_when_all_agree() -> None:
    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        rig.kernel.unplug(broken.mac)
        await rig.add("web")
        restarted = await rig.restarted()
        assert restarted.journal.book.enis[broken.eni_id].state is EniState.FROZEN
        assert _eni_of(await restarted.add("more")) != broken.eni_id
        rig.kernel.plug(broken.mac)
        await restarted.reconciler.all(ask_cloud=False)
        assert restarted.journal.book.enis[broken.eni_id].state is EniState.SERVING
        await restarted.watch.close()

    run(scenario())


def test_pods_that_wait_are_not_given_the_broken_enis_addresses() -> None:
    """Two at once: the one that finds it out, and one that asks meanwhile."""

    async def scenario() -> None:
        rig = Rig()
        broken = await _only_eni(rig)
        rig.kernel.unplug(broken.mac)
        added = await asyncio.gather(*(rig.add(f"web-{i}") for i in range(12)))
        assert {_eni_of(a) for a in added}.isdisjoint({broken.eni_id})
        await rig.settle()
        await rig.watch.close()

    run(scenario())


def test_a_return_that_cannot_be_waited_for_is_looked_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No descriptor was left for a moment: the one task that looks after the ENI outlives it."""
    monkeypatch.setattr(broken_watch, "FIRST_PAUSE", 0.01)

    async def scenario() -> None:
        rig = Rig()
        eni = await _only_eni(rig)
        appears, failures = rig.kernel.link_appears, [1, 1]

        async def failing(mac: Mac, *, timeout: float) -> bool:
            if mac == eni.mac and failures:
                failures.pop()
                raise KernelError("socket: Too many open files")
            return await appears(mac, timeout=timeout)

        await _detach(rig, eni)
        rig.kernel.link_appears = failing  # type: ignore[method-assign]  # twice
        await rig.add("web")
        await rig.cloud.attach_eni(eni.eni_id, NODE.instance_id)
        rig.kernel.plug(eni.mac)
        await _until(lambda: rig.journal.book.enis[eni.eni_id].state is EniState.SERVING)
        await rig.watch.close()

    run(scenario())
