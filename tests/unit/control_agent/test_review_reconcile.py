"""Reconciling while the pool works: answers are older than the book by the time they come."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from control.aliyun.fake import FakeCloud, FakeMetadata
from control.ipam import transitions
from control.model.cloud import Eni, MetadataEni
from control.model.errors import KernelError
from control.model.ids import ClientToken, InstanceId, Mac
from control.model.records import AddressState, Changes, EniState, Operation, OperationKind
from datapath.endpoint import SharedEni
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run


def test_eni_that_joins_while_metadata_is_read_does_not_break_the_round() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        read = rig.metadata.eni

        async def slow_eni(mac: Mac, *, ipv6: bool) -> MetadataEni | None:
            if len(rig.journal.book.enis) == 1:
                rig.metadata.eni = read  # type: ignore[method-assign]
                for i in range(15):
                    await rig.add(f"more-{i}")
                await rig.settle()
            return await read(mac, ipv6=ipv6)

        rig.metadata.eni = slow_eni  # type: ignore[method-assign]  # metadata takes its time
        await rig.reconciler.all(ask_cloud=True)
        assert len(rig.journal.book.enis) == 2
        rig.assert_agree()

    run(scenario())


def test_eni_that_joins_while_the_cloud_is_asked_is_neither_frozen_nor_forgotten() -> None:
    """Async results carry the state they were computed from: terway c2a5d9b2."""

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        ask = rig.cloud.enis_of_instance

        async def slow_enis(instance_id: InstanceId) -> tuple[Eni, ...]:
            answer = await ask(instance_id)
            for i in range(15):
                await rig.add(f"more-{i}")
            await rig.settle()
            return answer

        rig.cloud.enis_of_instance = slow_enis  # type: ignore[method-assign]  # the answer is an old one
        await rig.reconciler.all(ask_cloud=True)
        assert len(rig.journal.book.enis) == 2
        assert {e.state for e in rig.journal.book.enis.values()} == {EniState.SERVING}
        rig.assert_agree()

    run(scenario())


def test_eni_given_back_while_the_cloud_is_asked_is_not_adopted_again() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        await rig.delete("web-0")
        rig.clock.advance(31)
        ask = rig.cloud.enis_of_instance

        async def slow_enis(instance_id: InstanceId) -> tuple[Eni, ...]:
            answer = await ask(instance_id)
            rig.pool.sync()
            await rig.settle()
            assert not rig.journal.book.enis
            return answer

        rig.cloud.enis_of_instance = slow_enis  # type: ignore[method-assign]  # the answer is an old one
        await rig.reconciler.all(ask_cloud=True)
        assert not rig.journal.book.enis
        rig.assert_agree()

    run(scenario())


def test_eni_that_the_kernel_refuses_is_frozen_and_the_others_are_judged() -> None:
    async def scenario() -> None:
        rig = Rig()
        for i in range(20):
            await rig.add(f"web-{i}")
        await rig.settle()
        first, second = rig.journal.book.enis.values()
        prepare = rig.kernel.prepare_uplink

        def refuse(uplink: SharedEni) -> None:
            if uplink.eni.mac == first.mac:
                raise KernelError("prepare the ENI: eth1: No such device")
            prepare(uplink)

        rig.kernel.prepare_uplink = refuse  # type: ignore[method-assign]  # its device went between two looks
        rig.journal.record(transitions.freeze_eni(second, "seen late", rig.clock.now()))
        await rig.reconciler.all(ask_cloud=True)
        states = {e.eni_id: e.state for e in rig.journal.book.enis.values()}
        assert states == {first.eni_id: EniState.FROZEN, second.eni_id: EniState.SERVING}
        assert "No such device" in rig.journal.book.enis[first.eni_id].reason

    run(scenario())


def test_a_wrong_gateway_goes_when_metadata_is_right_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was wrong for the length of a restart; no address differs afterwards, and yet it is looked at."""

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        right = FakeMetadata.eni

        async def wrong(metadata: FakeMetadata, mac: Mac, *, ipv6: bool) -> MetadataEni | None:
            shown = await right(metadata, mac, ipv6=ipv6)
            return None if shown is None else replace(shown, gateway=IPv4Address("10.0.1.77"))

        with monkeypatch.context() as patch:
            patch.setattr(FakeMetadata, "eni", wrong)
            await rig.reconciler.all(ask_cloud=True)
        assert rig.journal.book.enis[eni.eni_id].gateway == IPv4Address("10.0.1.77")
        prepared: list[SharedEni] = []
        monkeypatch.setattr(rig.kernel, "prepare_uplink", prepared.append)
        await rig.reconciler.all(ask_cloud=False)
        assert rig.journal.book.enis[eni.eni_id].gateway == eni.gateway
        assert [(one.id, one.eni.gateway) for one in prepared] == [(eni.eni_id, eni.gateway)]
        prepared.clear()
        await rig.reconciler.all(ask_cloud=False)
        assert prepared == [], "a node at rest stays at rest"

    run(scenario())


def test_a_frozen_eni_is_prepared_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cloud's answer has left it out once; what its pods lean on is no foreign thing for that."""

    async def nothing(_cloud: FakeCloud, _instance: InstanceId) -> tuple[Eni, ...]:
        return ()

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        monkeypatch.setattr(FakeCloud, "enis_of_instance", nothing)
        new = await rig.restarted(reboot=True)
        assert new.journal.book.enis[eni.eni_id].state is EniState.FROZEN
        assert eni.mac in new.kernel.enis

    run(scenario())


def test_eni_of_a_node_that_turns_dual_stack_learns_its_ipv6_gateway() -> None:
    async def scenario() -> None:
        rig = Rig(dual=True)
        await rig.add("web-0")
        (eni,) = rig.journal.book.enis.values()
        rig.journal.record(Changes(enis=(replace(eni, cidr_v6=None, gateway_v6=None),)))
        await rig.reconciler.all(ask_cloud=True)
        assert rig.journal.book.enis[eni.eni_id].gateway_v6 == eni.gateway_v6 is not None

    run(scenario())


def test_an_address_that_went_is_not_handed_out_though_an_operation_is_about_its_eni() -> None:
    """A ledger cut back in time: its assignment is resumed, and what was unassigned since is free in it."""

    async def scenario() -> None:
        rig = Rig()
        await rig.add("web")
        await rig.settle()
        (eni,) = rig.journal.book.enis.values()
        gone = next(r.address for r in rig.journal.book.of_eni(eni.eni_id) if r.owner is None)
        assert isinstance(gone, IPv4Address)
        await rig.cloud.unassign_ipv4(eni.eni_id, [gone])
        resumed = Operation(
            ClientToken("old"), OperationKind.ASSIGN, rig.clock.now(), eni.eni_id, ipv4_count=1
        )
        rig.journal.record(Changes(operations=(resumed,)))
        await rig.reconciler.all(ask_cloud=True)
        assert rig.journal.book.addresses[gone].state is AddressState.FROZEN
        assert resumed.token in rig.journal.book.operations, "which is not touched"
        for i in range(4):
            assert (await rig.add(f"more-{i}")).record.ipv4 != gone

    run(scenario())
