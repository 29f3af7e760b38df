"""What fails for one vSwitch or one ENI is no reason to do nothing for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from control.agent.allocation.vswitches import RETRY_SECONDS, VSwitches
from control.agent.dataplane.fake_kernel import FakeKernel
from control.agent.introspection.window import Window
from control.aliyun.actions import Action
from control.aliyun.fake import FakeAccount, FakeCloud, FakeMetadata
from control.cli import render
from control.model.clock import SystemClock
from control.model.cloud import CreateEni, MetadataEni, VSwitch
from control.model.errors import CloudError, KernelError, KubernetesError, MetadataError
from control.model.ids import Address, ClientToken, Mac, PodKey, SecurityGroupId, VSwitchId
from control.model.policies import VSwitchPolicy
from control.model.records import AddressState, EniState
from control.process.http_api import HttpApi
from control.store.memory import MemoryLedger
from datapath.endpoint import Endpoint, EndpointId
from tests.unit.control_agent.rig import LIMITS, NODE, Rig
from tests.unit.control_agent.test_disk import service
from tests.unit.control_agent.test_review_upkeep import upkeep_of

FIRST, SECOND = VSwitchId("vsw-1"), VSwitchId("vsw-2")


class Site:
    """An account with two vSwitches of the node's zone, and who chooses between them."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        vswitches = {
            FIRST: VSwitch(FIRST, NODE.zone, IPv4Network("10.0.1.0/24"), 100),
            SECOND: VSwitch(SECOND, NODE.zone, IPv4Network("10.0.2.0/24"), 50),
            NODE.vswitch_id: VSwitch(NODE.vswitch_id, NODE.zone, IPv4Network("10.0.0.0/24"), 50),
        }
        self.account = FakeAccount(
            self.clock, vswitches, {LIMITS.instance_type: LIMITS}, {SecurityGroupId("sg")}
        )
        self.account.add_instance(NODE)
        self.cloud = FakeCloud(self.account)
        self.choice = VSwitches(
            self.cloud, self.clock, (FIRST, SECOND), zone=NODE.zone, policy=VSwitchPolicy.MOST
        )

    def described(self) -> int:
        return self.cloud.count(Action.DESCRIBE_VSWITCHES)


def test_one_vswitch_that_cannot_be_described_leaves_the_other() -> None:
    site = Site()
    site.cloud.fail(Action.DESCRIBE_VSWITCHES, "InternalError")
    assert asyncio.run(site.choice.choose({})) == SECOND
    before = site.described()
    assert asyncio.run(site.choice.choose({})) == SECOND
    assert site.described() == before, "the one that failed is not asked at once again"
    site.clock.advance(RETRY_SECONDS + 1)
    assert asyncio.run(site.choice.choose({})) == FIRST, "it has more addresses, and is asked again by itself"
    assert site.described() == before + 1


def test_a_vswitch_is_as_it_was_last_known() -> None:
    site = Site()
    assert asyncio.run(site.choice.choose({})) == FIRST
    site.clock.advance(601)
    site.cloud.fail(Action.DESCRIBE_VSWITCHES, "InternalError", times=2)
    assert asyncio.run(site.choice.choose({})) == FIRST


def test_none_that_can_be_described_is_told_and_asked_again_at_once() -> None:
    site = Site()
    site.cloud.fail(Action.DESCRIBE_VSWITCHES, "Forbidden.RAM", times=2)
    with pytest.raises(CloudError, match=r"Forbidden\.RAM"):
        asyncio.run(site.choice.choose({}))
    assert asyncio.run(site.choice.choose({})) == FIRST


def test_the_failure_is_told_where_the_others_are_full() -> None:
    site = Site()
    site.account.fill(SECOND, leaving=0)
    site.cloud.fail(Action.DESCRIBE_VSWITCHES, "InternalError")
    with pytest.raises(CloudError, match=r"InternalError.*vsw-1 \(not described\), vsw-2 \(0 free\)"):
        asyncio.run(site.choice.choose({}))


class Metadata(FakeMetadata):
    """Has a fault for the ENI ``broken``."""

    broken: Mac | None = None

    async def eni(self, mac: Mac, *, ipv6: bool) -> MetadataEni | None:
        if mac == self.broken:
            raise MetadataError(f"metadata of {mac}: HTTP status 500")
        return await super().eni(mac, ipv6=ipv6)


class Parts:
    """Of a node, what the window asks besides."""

    def primary_mac(self) -> Mac:
        return NODE.mac

    def device_of(self, mac: Mac) -> str:
        del mac
        return "eth1"


def answers(metadata: FakeMetadata) -> Callable[[], Any]:
    routes: dict[str, Any] = {}

    class Api:
        def route(self, method: str, name: str, handler: Any) -> None:
            routes[f"{method} {name}"] = handler

    parts = cast(Any, Parts())
    window = Window(
        cast(Any, None),
        metadata=metadata,
        kernel=parts,
        known=parts,
        timers=parts,
        switch=parts,
        write_schema_1=parts,
    )
    window.register(cast(HttpApi, Api()), test_clock=False)
    return lambda: asyncio.run(routes["GET metadata"]([], {}))


def test_metadata_shows_what_it_has_and_what_it_could_not_read() -> None:
    site = Site()
    made = site.account.create(CreateEni(FIRST, (SecurityGroupId("sg"),), 2, 0, ClientToken("t")))
    site.account.attach(made.eni_id, NODE.instance_id)
    metadata = Metadata(site.account, NODE)
    ask = answers(metadata)
    assert [row["mac"] for row in ask()["enis"]] == [NODE.mac, made.mac]
    for broken, other in ((made.mac, NODE.mac), (NODE.mac, made.mac)):
        metadata.broken = broken
        answer = ask()
        assert [row["mac"] for row in answer["enis"]] == [other]
        text = render.metadata_tree(answer)
        assert other in text
        assert f"{broken} not read: metadata of {broken}: HTTP status 500" in text


def test_an_eni_that_metadata_fails_for_does_not_keep_the_others_from_being_looked_at() -> None:
    """The other one has lost an address, and that is found."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        for number in range(16):
            await rig.add(f"p{number}")
        await rig.settle()
        enis = {e.eni_id: e for e in rig.journal.book.enis.values()}
        primary = {e.primary_ip for e in enis.values()}
        lost = next(a for a in rig.journal.book.addresses if a not in primary)
        of = rig.journal.book.addresses[lost].eni_id
        other = next(e for i, e in enis.items() if i != of)
        assert isinstance(lost, IPv4Address)
        await rig.cloud.unassign_ipv4(of, [lost])
        read = rig.metadata.eni

        async def failing(mac: Mac, *, ipv6: bool) -> MetadataEni | None:
            if mac == other.mac:
                raise MetadataError(f"metadata of {mac}: HTTP status 500")
            return await read(mac, ipv6=ipv6)

        rig.metadata.eni = failing  # type: ignore[method-assign]  # one ENI of two
        await rig.reconciler.all(ask_cloud=True)
        assert rig.journal.book.addresses[lost].state is AddressState.FROZEN
        assert rig.journal.book.enis[other.eni_id].state is EniState.SERVING

    asyncio.run(scenario())


class Stubborn(FakeKernel):
    """Takes down everything but one link."""

    stubborn = ""

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        if endpoint.host_link == self.stubborn:
            raise KernelError(f"link {endpoint.host_link} cannot be removed")
        super().teardown(endpoint, netns)

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        if who.host_link == self.stubborn:
            raise KernelError(f"link {who.host_link} cannot be removed")
        return super().take_down(who, netns)


async def _three_pods_that_are_gone() -> Rig:
    """From the kernel; the first of them leaves something that cannot be removed."""
    rig = Rig(kernel=Stubborn(), max_pool=0)
    first = (await rig.add("p0")).record
    for number in (1, 2):
        await rig.add(f"p{number}")
    cast(Stubborn, rig.kernel).stubborn = first.host_link
    rig.kernel.endpoints.clear()
    rig.clock.advance(200)
    return rig


def test_a_pod_that_cannot_be_collected_does_not_keep_the_others() -> None:
    async def scenario() -> None:
        rig = await _three_pods_that_are_gone()
        rig.kubernetes.remove_pods()
        await upkeep_of(rig).collect()
        assert [a.pod.name for a in rig.journal.book.attachments.values()] == ["p0"]

    asyncio.run(scenario())


def test_a_pod_that_kubernetes_does_not_answer_for_does_not_keep_the_others() -> None:
    async def scenario() -> None:
        rig = await _three_pods_that_are_gone()
        rig.kubernetes.remove_pods()
        cast(Stubborn, rig.kernel).stubborn = ""
        exists = rig.kubernetes.exists

        async def failing(key: PodKey, uid: str) -> bool:
            if key.name == "p0":
                raise KubernetesError("GET of pod default/p0 was refused with 500")
            return await exists(key, uid)

        rig.kubernetes.exists = failing  # type: ignore[method-assign]  # one pod of three
        await upkeep_of(rig).collect()
        assert [a.pod.name for a in rig.journal.book.attachments.values()] == ["p0"]

    asyncio.run(scenario())


def test_gc_frees_the_others_and_tells_of_the_one() -> None:
    async def scenario() -> None:
        rig = await _three_pods_that_are_gone()
        with pytest.raises(KernelError, match="cannot be removed"):
            service(rig)._collect(())
        assert [a.pod.name for a in rig.journal.book.attachments.values()] == ["p0"]

    asyncio.run(scenario())


def test_gc_takes_down_the_other_links_without_a_record() -> None:
    async def scenario() -> None:
        rig = Rig(kernel=Stubborn(), max_pool=0)
        links = [(await rig.add(f"p{number}")).record.host_link for number in range(3)]
        cast(Stubborn, rig.kernel).stubborn = links[0]
        rig.ledger = MemoryLedger()
        rig.kubernetes.remove_pods()
        new = await rig.restarted()
        with pytest.raises(KernelError, match="cannot be removed"):
            service(new)._collect(())
        assert list(rig.kernel.endpoints) == links[:1]

    asyncio.run(scenario())


def test_an_eni_that_the_kernel_fails_for_does_not_keep_the_others_from_being_looked_at() -> None:
    """One is gone and cannot be forgotten; the next one has lost an address, and that is found."""

    class Failing(FakeKernel):
        gone = ""

        def forget_eni(self, mac: Mac) -> None:
            if mac == self.gone:
                raise KernelError(f"routes of {mac} cannot be removed")
            super().forget_eni(mac)

    async def scenario() -> None:
        kernel = Failing()
        rig = Rig(kernel=kernel, max_pool=0)
        for number in range(16):
            await rig.add(f"p{number}")
        await rig.settle()
        first, second = rig.journal.book.enis.values()
        for record in tuple(rig.journal.book.attachments.values()):
            if record.eni_id == first.eni_id:
                await rig.delete(record.pod.name)
        kernel.gone = first.mac
        await rig.cloud.detach_eni(first.eni_id, NODE.instance_id)
        await rig.add("more")
        lost = next(
            r.address for r in rig.journal.book.of_eni(second.eni_id) if r.address != second.primary_ip
        )
        assert isinstance(lost, IPv4Address)
        await rig.cloud.unassign_ipv4(second.eni_id, [lost])
        await rig.reconciler.all(ask_cloud=True)
        assert first.eni_id in rig.journal.book.enis, "it stays until the kernel lets go"
        assert rig.journal.book.addresses[lost].state is AddressState.FROZEN

    asyncio.run(scenario())
