"""A lost ledger is rebuilt by what kernel, cloud and Kubernetes agree on, and by nothing less."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from control.agent.reconcile import recovery
from control.agent.reconcile.rebuild import REBUILDING
from control.aliyun.actions import Action
from control.model.errors import KernelError
from control.model.ids import AttachmentKey
from control.model.modes import EniKind, NetworkMode, Uplink, UplinkKind
from control.model.pod import Pod
from control.model.records import AddressState, AttachmentRecord, AttachmentState, Changes, Ended
from control.store.memory import MemoryLedger
from datapath.endpoint import Carrier, Mode
from datapath.pod.names import host_link_name, host_mac
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_holds import run
from tests.unit.control_agent.test_review_upkeep import upkeep_of


def tell_of_addresses(rig: Rig) -> None:
    """As kubelets do: each pod's status has the addresses that it runs with."""
    for record in rig.journal.book.attachments.values():
        if record.key.ifname == "eth0":
            pod = rig.kubernetes.pods()[record.pod]
            rig.kubernetes.put_pod(replace(pod, addresses=record.addresses()))


async def with_pods(count: int, *, dual: bool = False) -> Rig:
    rig = Rig(dual=dual, max_pool=0)
    for n in range(count):
        await rig.add(f"web-{n}")
    tell_of_addresses(rig)
    return rig


async def lost(rig: Rig) -> Rig:
    """The next daemon on a node whose ledger is gone."""
    rig.ledger = MemoryLedger()
    rig.ledger.remember("nothing", "of this node")
    return await rig.restarted()


def story(rig: Rig) -> dict[AttachmentKey, AttachmentRecord]:
    """What is recorded, but for what no witness can tell: times, and the path that the runtime gave."""
    return {
        key: replace(record, since=0.0, made=0.0, netns="")
        for key, record in rig.journal.book.attachments.items()
    }


@pytest.mark.parametrize("dual", [False, True])
def test_everything_that_runs_is_recorded_again(dual: bool) -> None:
    async def scenario() -> None:
        rig = await with_pods(8, dual=dual)
        before = story(rig)
        assert len(before) == 8
        new = await lost(rig)
        assert story(new) == before
        for record in before.values():
            assert (record.state, record.mode) == (AttachmentState.READY, NetworkMode.POLICY_ROUTE)
            assert record.uplink.kind is UplinkKind.SHARED_ENI
            assert not new.attachments.check(record.key, None)
        assert not new.holds.unrecorded
        assert not new.rebuild.going_on()
        new.assert_agree()
        reasons = [event.reason for event in new.kubernetes.events]
        assert "PodsInLedger" in reasons
        again = await new.restarted()
        assert story(again) == before

    run(scenario())


def _of_nobody(pod: Pod) -> Pod:
    return replace(pod, addresses=())


def _of_another(pod: Pod) -> Pod:
    return replace(pod, addresses=(IPv4Address("10.0.1.250"),))


def _ended(pod: Pod) -> Pod:
    return replace(pod, sandbox_exited=True)


def _of_the_host(pod: Pod) -> Pod:
    return replace(pod, host_network=True)


@pytest.mark.parametrize("change", [_of_nobody, _of_another, _ended, _of_the_host])
def test_a_pod_that_kubernetes_does_not_vouch_for_stays_held(change: Callable[[Pod], Pod]) -> None:
    async def scenario() -> None:
        rig = await with_pods(2)
        record = next(r for r in rig.journal.book.attachments.values() if r.pod.name == "web-0")
        sound = rig.kubernetes.pods()[record.pod]
        rig.kubernetes.put_pod(change(sound))
        new = await lost(rig)
        assert [r.pod.name for r in new.journal.book.attachments.values()] == ["web-1"]
        assert new.journal.book.held == set(record.addresses())
        again = await new.restarted()
        assert again.rebuild.going_on(), "a restart goes on with it"
        rig.kubernetes.put_pod(sound)
        assert again.rebuild.run() == 1
        assert not again.rebuild.going_on()
        again.assert_agree()

    run(scenario())


def test_an_api_server_that_is_away_is_waited_for() -> None:
    async def scenario() -> None:
        rig = await with_pods(3)
        before = story(rig)
        rig.kubernetes.away = True
        rig.kubernetes.forget()
        new = await lost(rig)
        assert not new.journal.book.attachments
        assert len(new.journal.book.held) == 3
        rig.kubernetes.come_back()
        assert new.rebuild.run() == 3
        assert story(new) == before

    run(scenario())


def test_the_pod_of_a_later_sandbox_is_not_taken_for_the_one_that_runs() -> None:
    """web-0 was deleted and made anew while no agent ran: same name and link, another uid, no address yet."""

    async def scenario() -> None:
        rig = await with_pods(1)
        (record,) = rig.journal.book.attachments.values()
        rig.kubernetes.put_pod(Pod(record.pod, "uid-of-the-next", "node1"))
        new = await lost(rig)
        assert not new.journal.book.attachments
        assert new.journal.book.held == set(record.addresses())
        attached = await new.add("web-0", container="c-next", uid="uid-of-the-next")
        assert attached.record.ipv4 != record.ipv4

    run(scenario())


def test_a_link_with_a_name_and_no_sandbox_is_not_recorded() -> None:
    """Somebody's own link that is called as a pod's would be, or has another alias."""

    async def scenario() -> None:
        rig = await with_pods(2)
        (carrier, _) = rig.kernel.carriers()
        forged = [
            replace(carrier, link="cali1", container_id="x" * 64),
            replace(carrier, link=host_link_name("default", "web-9", "eth0"), container_id=""),
        ]
        rig.kernel.foreign = {c.link: replace(c, addresses=frozenset()) for c in forged}
        new = await lost(rig)
        assert {r.pod.name for r in new.journal.book.attachments.values()} == {"web-0", "web-1"}
        assert {c.link for c in new.holds.unrecorded} == set(rig.kernel.foreign)

    run(scenario())


@pytest.mark.parametrize(("alias", "recorded"), [("a" * 64, True), ("somebody", False)])
def test_a_link_whose_mac_somebody_altered_is_known_by_an_alias_that_is_a_sandboxs(
    alias: str, recorded: bool
) -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0", container=alias)
        tell_of_addresses(rig)
        (carrier,) = rig.kernel.carriers()
        rig.kernel.endpoints.clear()
        rig.kernel.foreign[carrier.link] = replace(carrier, mac="02:00:00:00:be:ef")
        new = await lost(rig)
        assert bool(new.journal.book.attachments) is recorded
        assert bool(new.journal.book.held) is not recorded

    run(scenario())


async def with_altered(link: str = "", alias: str = "") -> Rig:
    """Two pods, of which the link of web-0 has another name or alias by somebody, and its own MAC."""
    rig = await with_pods(2)
    carrier = next(c for c in rig.kernel.carriers() if c.link == host_link_name("default", "web-0", "eth0"))
    del rig.kernel.endpoints[carrier.link]
    altered = replace(carrier, link=link or carrier.link, container_id=alias or carrier.container_id)
    rig.kernel.foreign[altered.link] = altered
    return rig


def test_a_link_that_somebody_renamed_goes_by_its_mac_and_address() -> None:
    """Its record has the link's right name, by which a repair names it again."""

    async def scenario() -> None:
        rig = await with_altered(link="renamed0")
        before = story(rig)
        silent = rig.knows("silent")
        new = await lost(rig)
        assert [r.pod.name for r in new.journal.book.attachments.values()] == ["web-1"]
        shown = rig.kubernetes.pods()[silent]
        rig.kubernetes.put_pod(replace(shown, addresses=(IPv4Address("1.2.3.4"),)))
        assert new.rebuild.run() == 1, "every pod has told its address: nobody else can have it"
        assert story(new) == before
        assert not new.rebuild.going_on()

    run(scenario())


@pytest.mark.parametrize("link", ["", "renamed0"])
def test_a_link_whose_alias_somebody_altered_goes_by_what_the_runtime_lists(link: str) -> None:
    """Its MAC is made of the sandbox, but does not say it: the runtime's list does. No GC takes it down."""

    async def scenario() -> None:
        rig = await with_altered(link=link, alias="somebody")
        before = story(rig)
        new = await lost(rig)
        assert [r.pod.name for r in new.journal.book.attachments.values()] == ["web-1"]
        assert len(new.journal.book.held) == 1
        new.holds.collect(list(before))
        assert len(new.kernel.carriers()) == 2, "it is in the list, whatever its alias is"
        assert new.rebuild.run() == 1
        assert story(new) == before

    run(scenario())


@pytest.mark.parametrize("alias", ["", "somebody"])
def test_a_repeated_add_or_a_del_finds_an_altered_link_by_its_mac(alias: str) -> None:
    async def scenario() -> None:
        rig = await with_altered(link="renamed0", alias=alias)
        (key,) = (k for k, r in rig.journal.book.attachments.items() if r.pod.name == "web-0")
        (address,) = rig.journal.book.attachments[key].addresses()
        rig.knows("silent")
        new = await lost(rig)
        running = new.holds.running(key)
        assert running is not None
        assert running.addresses == {address}
        new.holds.take_down(key)
        assert [c.link for c in new.kernel.carriers()] == [host_link_name("default", "web-1", "eth0")]

    run(scenario())


def test_another_interface_goes_by_its_sandbox() -> None:
    """The status of a pod has the addresses of its first interface only."""

    async def scenario() -> None:
        rig = await with_pods(2)
        await rig.delete("web-1")
        (first,) = rig.kernel.carriers()
        address = next(a for a in rig.journal.book.addresses if a not in first.addresses)
        rig.kernel.foreign["net1"] = replace(
            first,
            link=host_link_name("default", "web-0", "net1"),
            mac=host_mac(first.container_id, "net1"),
            addresses=frozenset({address}),
        )
        new = await lost(rig)
        keys = {r.key.ifname: r for r in new.journal.book.attachments.values()}
        assert set(keys) == {"eth0", "net1"}
        assert keys["net1"].pod == keys["eth0"].pod
        assert keys["net1"].uid == keys["eth0"].uid
        assert not new.rebuild.going_on()

    run(scenario())


def test_a_pod_without_a_host_link_goes_by_its_address_once_every_pod_has_told_its_own() -> None:
    """Its mark has the sandbox, and no name: a kubelet may not have said yet whose the address is by now."""

    async def scenario() -> None:
        rig = await with_pods(2)
        gone = next(r for r in rig.journal.book.attachments.values() if r.pod.name == "web-1")
        await rig.delete("web-1")
        assert gone.ipv4 is not None
        (first,) = rig.kernel.carriers()
        rig.kernel.foreign["eth1"] = replace(
            first,
            link="eth1",
            mac="00:16:3e:00:00:09",
            container_id="f" * 64,
            addresses=frozenset({gone.ipv4}),
            mode=Mode.MACVLAN,
            ifname="eth0",
        )
        silent = rig.knows("silent")
        new = await lost(rig)
        assert [r.pod.name for r in new.journal.book.attachments.values()] == ["web-0"]
        assert new.journal.book.held == {gone.ipv4}
        shown = rig.kubernetes.pods()[silent]
        rig.kubernetes.put_pod(replace(shown, addresses=(IPv4Address("1.2.3.4"),)))
        assert new.rebuild.run() == 1
        record = new.journal.book.attachments[AttachmentKey("f" * 64, "eth0")]
        assert (record.pod, record.mode, record.host_link) == (gone.pod, NetworkMode.MACVLAN, "")

    run(scenario())


def test_the_uplink_of_an_eni_of_a_pods_own_is_known_by_its_tag() -> None:
    async def scenario() -> None:
        rig = await with_pods(1)
        new = await lost(rig)
        book = new.journal.book
        (record,) = book.attachments.values()
        new.journal.record(
            Changes(
                enis=(replace(book.enis[record.eni_id], kind=EniKind.EXCLUSIVE),),
                addresses=(
                    replace(book.addresses[record.addresses()[0]], owner=None, state=AddressState.FREE),
                ),
                gone_attachments=(record.key,),
            )
        )
        new.journal.remember(REBUILDING, "lost")
        assert new.rebuild.run() == 1
        assert book.attachments[record.key].uplink == Uplink(UplinkKind.OWN_ENI, record.eni_id)

    run(scenario())


def test_an_older_ledger_is_brought_up_to_date() -> None:
    """A copy of it was put back: web-0 has ended since, and its address is web-1's by now."""

    async def scenario() -> None:
        rig = await with_pods(1)
        (old,) = rig.journal.book.attachments.values()
        copy = MemoryLedger()
        copy.begin_anew(rig.ledger.load())
        await rig.delete("web-0")
        rig.kubernetes.remove_pod(old.pod)
        rig.clock.advance(31)
        for n in (1, 2, 3):
            await rig.add(f"web-{n}")
        tell_of_addresses(rig)
        before = story(rig)
        assert any(old.ipv4 == r.ipv4 for r in before.values()), "it was handed out again"
        rig.ledger = copy
        new = await rig.restarted()
        await new.reconciler.all(ask_cloud=True)
        await new.reconciler.all(ask_cloud=True)
        new.rebuild.run()
        assert story(new) == before
        new.assert_agree()
        (past,) = new.journal.history(old.pod)
        assert (past.ended, past.address, past.key) == (Ended.OUTDATED, old.ipv4, old.key)
        told = [event.message for event in new.kubernetes.events if event.reason == "LedgerLost"]
        assert len(told) == 1
        assert "older than what runs" in told[0]
        assert "memory.older" in told[0]

    run(scenario())


def test_an_address_that_an_attachment_has_and_nobody_owns_is_its_own_again() -> None:
    """Two rows of an older copy that tell two stories: an intent of that day gave the address back."""

    async def scenario() -> None:
        rig = await with_pods(2)
        before = story(rig)
        book = rig.journal.book
        freed = tuple(
            replace(r, state=AddressState.FREE, owner=None, since=0.0) for r in book.addresses.values()
        )
        rig.ledger.write(Changes(addresses=freed))
        new = await rig.restarted()
        assert story(new) == before
        new.assert_agree()
        assert not new.rebuild.going_on()

    run(scenario())


def test_one_of_two_addresses_that_nobody_owns_is_its_attachments_again() -> None:
    """Memory and ledger alike: the attachment is not outdated by itself."""

    async def scenario() -> None:
        rig = await with_pods(2, dual=True)
        before = story(rig)
        book = rig.journal.book
        freed = tuple(
            replace(r, state=AddressState.FREE, owner=None, since=0.0)
            for r in book.addresses.values()
            if r.address.version == 6
        )
        rig.ledger.write(Changes(addresses=freed))
        new = await rig.restarted()
        assert story(new) == before
        assert {a.key for a in new.ledger.load().attachments} == before.keys()
        for record in before.values():
            assert all(new.journal.book.addresses[a].owner == record.key for a in record.addresses())
            assert not new.journal.history(record.pod)
        assert not new.rebuild.going_on()

    run(scenario())


def test_an_address_that_a_pod_of_the_api_has_is_nobody_elses_after_a_reboot() -> None:
    """The ledger and all links are gone. A finished pod's address, which its status keeps, is free."""

    async def scenario() -> None:
        rig = await with_pods(3)
        records = {r.pod.name: r for r in rig.journal.book.attachments.values()}
        ended = records["web-2"].pod
        rig.kubernetes.put_pod(replace(rig.kubernetes.pods()[ended], sandbox_exited=True))
        rig.kernel.endpoints.clear()
        new = await lost(rig)
        assert new.journal.book.held == {records["web-0"].ipv4, records["web-1"].ipv4}
        assert new.rebuild.going_on()
        await new.add("web-0", container="c-again")
        rig.kubernetes.remove_pod(records["web-1"].pod)
        new.rebuild.run()
        assert not new.journal.book.held
        assert not new.journal.facts[REBUILDING]

    run(scenario())


def test_a_finished_pod_counts_for_nothing_while_no_ledger_is_rebuilt() -> None:
    async def scenario() -> None:
        rig = await with_pods(2)
        record = next(r for r in rig.journal.book.attachments.values() if r.pod.name == "web-0")
        await rig.delete("web-0")
        new = await rig.restarted()
        assert not new.rebuild.going_on()
        assert not new.journal.book.held
        assert record.ipv4 in new.journal.book.addresses

    run(scenario())


async def _without_cloud(rig: Rig) -> Rig:
    """The next daemon, on a node whose ledger is gone, while the OpenAPI is away."""
    await rig.watch.close()
    await rig.allocators.close()
    rig.ledger = MemoryLedger()
    rig.ledger.remember("nothing", "of this node")
    new = replace(rig)
    new.cloud.fail(Action.DESCRIBE_ENIS, "ServiceUnavailable")
    await new.recovery.run("boot-1")
    return new


def test_a_cloud_that_was_away_at_the_start_is_asked_by_the_rounds() -> None:
    """What runs is told by kernel and metadata; whether there is more the cloud alone knows."""

    async def scenario() -> None:
        rig = await with_pods(3)
        before = story(rig)
        new = await _without_cloud(rig)
        assert story(new) == before
        assert new.rebuild.going_on()
        await upkeep_of(new)._watch()
        assert new.rebuild.run() == 0
        assert not new.rebuild.going_on()
        asked = new.cloud.count(Action.DESCRIBE_ENIS)
        await upkeep_of(new)._watch()
        assert new.cloud.count(Action.DESCRIBE_ENIS) == asked, "once is enough"

    run(scenario())


def test_what_the_cloud_shows_late_is_not_free_if_a_pod_of_the_api_has_it() -> None:
    """No link tells of these pods, and no address was known when Kubernetes was asked first."""

    async def scenario() -> None:
        rig = await with_pods(3)
        records = tuple(rig.journal.book.attachments.values())
        rig.kernel.endpoints.clear()
        new = await _without_cloud(rig)
        new.rebuild.run()
        assert new.rebuild.going_on(), "nobody has said yet which addresses there are"
        await upkeep_of(new)._watch()
        taken = {r.ipv4 for r in records}
        assert taken <= new.journal.book.addresses.keys()
        other = await new.add("another")
        assert other.record.ipv4 not in taken

    run(scenario())


@pytest.mark.parametrize("cloud_first", [False, True])
def test_before_kubernetes_has_listed_its_pods_no_address_is_free(cloud_first: bool) -> None:
    """No link tells of these pods: a GET of the next one is answered, the list of all not yet."""

    async def scenario() -> None:
        rig = await with_pods(3)
        taken = {r.ipv4 for r in rig.journal.book.attachments.values()}
        rig.kernel.endpoints.clear()
        rig.kubernetes.forget()
        if cloud_first:
            new = await lost(rig)
        else:
            new = await _without_cloud(rig)
            await upkeep_of(new)._watch()
        assert taken <= new.journal.book.addresses.keys()
        before = len(new.in_cloud())
        adding = asyncio.ensure_future(new.add("another"))
        await asyncio.sleep(0.01)
        assert not adding.done()
        new.pool.sync()
        await asyncio.sleep(0.01)
        assert len(new.in_cloud()) == before, "nor is one given back, or asked for"
        new.kubernetes.come_back()
        other = await adding
        assert other.record.ipv4 not in taken
        assert new.rebuild.going_on(), "three pods of the API are without a sandbox"

    run(scenario())


def test_an_own_eni_waits_for_the_list_of_pods_too() -> None:
    async def scenario() -> None:
        rig = Rig(mode=NetworkMode.MACVLAN)
        await rig.add("own")
        tell_of_addresses(rig)
        (record,) = rig.journal.book.attachments.values()
        rig.kernel.endpoints.clear()
        rig.kubernetes.forget()
        new = await lost(rig)
        adding = asyncio.ensure_future(new.add("another"))
        await asyncio.sleep(0.01)
        assert not adding.done()
        new.kubernetes.come_back()
        assert (await adding).record.ipv4 != record.ipv4

    run(scenario())


def test_a_kernel_that_fails_as_the_list_comes_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else may change on this node for long, and pods wait for their addresses."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN", 0.001)

    async def scenario() -> None:
        rig = await with_pods(3)
        rig.kernel.endpoints.clear()
        rig.kubernetes.forget()
        new = await lost(rig)
        adding = asyncio.ensure_future(new.add("another"))
        await asyncio.sleep(0.01)
        look, failures = new.holds.look, iter(range(3))

        def failing(*, lately: bool = False) -> tuple[Carrier, ...]:
            if next(failures, None) is not None:
                raise KernelError("no descriptor is left")
            return look(lately=lately)

        monkeypatch.setattr(new.holds, "look", failing)
        new.kubernetes.come_back()
        async with asyncio.timeout(20):
            await adding
        assert next(failures, None) is None

    run(scenario())


def test_who_was_asked_for_the_list_is_closed_with_the_start() -> None:
    """A start that somebody holds up is begun anew, and the one before is told of nothing more."""

    async def scenario() -> None:
        rig = await with_pods(1)
        rig.kernel.endpoints.clear()
        rig.kubernetes.forget()
        new = await lost(rig)
        await new.recovery.close()
        new.kubernetes.come_back()
        new.recovery._pods_listed()
        assert new.rebuild.pods_unlisted()

    run(scenario())
