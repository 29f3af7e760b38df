"""What every allocator promises, the fake included: the ledger knows what was given to whom until when."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from control.ipam.allocator import AllocationRequest, Reservation
from control.model.errors import LedgerError, PoolExhausted
from control.model.ids import AttachmentKey, PodKey
from control.model.records import AddressState, AttachmentState, Changes
from tests.contract.allocation.conftest import Site


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())


def _request(site: Site, name: str, *, container: str = "", ifname: str = "eth0") -> AllocationRequest:
    return AllocationRequest(
        key=AttachmentKey(container or f"c-{name}", ifname),
        pod=PodKey("default", name),
        uid=f"uid-{name}",
        kind=site.kind,
        mode=site.mode,
        netns="/run/netns/x",
        host_links=(f"cali-{name}", f"cali-{name}-{container or 'c'}"),
    )


async def _all(site: Site) -> list[Reservation]:
    return [await site.allocator.acquire(_request(site, f"web-{i}")) for i in range(site.capacity)]


def test_what_is_acquired_is_in_the_ledger_as_an_intent_with_all_that_was_asked(site: Site) -> None:
    async def scenario() -> None:
        request = _request(site, "web")
        reservation = await site.allocator.acquire(request)
        record = reservation.record
        assert site.rig.journal.book.attachments == {request.key: record}
        assert (record.state, record.pod, record.uid) == (AttachmentState.ADDING, request.pod, request.uid)
        assert (record.uplink.kind, record.mode, record.netns) == (site.kind, site.mode, request.netns)
        assert record.host_link == "cali-web"
        assert record.uplink.id in site.rig.journal.book.enis
        assert record.addresses(), "an address at least"
        for address in record.addresses():
            held = site.rig.journal.book.addresses[address]
            assert (held.state, held.owner) == (AddressState.ASSIGNED, request.key)
        assert site.rig.ledger.load().attachments == (record,)

    run(scenario())


def test_no_two_have_the_same(site: Site) -> None:
    async def scenario() -> None:
        requests = [_request(site, f"web-{i}") for i in range(site.capacity)]
        reservations = await asyncio.gather(*map(site.allocator.acquire, requests))
        addresses = [a for r in reservations for a in r.record.addresses()]
        assert len(addresses) == len(set(addresses)) >= site.capacity

    run(scenario())


def test_committed_it_is_ready_and_released_it_is_as_if_never_asked(site: Site) -> None:
    async def scenario() -> None:
        book = site.rig.journal.book
        kept = await site.allocator.acquire(_request(site, "kept"))
        kept.commit()
        assert book.attachments[kept.record.key].state is AttachmentState.READY
        given_up = await site.allocator.acquire(_request(site, "given-up"))
        given_up.release()
        assert list(book.attachments) == [kept.record.key]
        assert all(book.addresses[a].owner is None for a in given_up.record.addresses())

    run(scenario())


def test_a_new_sandbox_ends_the_older_one_when_it_is_committed(site: Site) -> None:
    async def scenario() -> None:
        old = await site.allocator.acquire(_request(site, "web", container="old"))
        old.commit()
        new = await site.allocator.acquire(_request(site, "web", container="new"))
        assert {r.key.container_id for r in site.rig.journal.book.attachments.values()} == {"old", "new"}
        new.commit(replaces=[old.record])
        assert [r.key.container_id for r in site.rig.journal.book.attachments.values()] == ["new"]
        owned = {r.address for r in site.rig.journal.book.addresses.values() if r.owner}
        assert owned == set(new.record.addresses())

    run(scenario())


def test_what_was_given_up_unused_serves_the_next_one(site: Site) -> None:
    async def scenario() -> None:
        reservations = await _all(site)
        with pytest.raises(PoolExhausted) as told:
            await site.allocator.acquire(_request(site, "one-more"))
        assert str(told.value)
        assert _request(site, "one-more").key not in site.rig.journal.book.attachments
        reservations[0].release()
        site.allocator.kick()
        again = await site.allocator.acquire(_request(site, "one-more"))
        assert again.record.addresses() == reservations[0].record.addresses()

    run(scenario())


def test_a_name_that_another_interface_has_is_not_given_again(site: Site) -> None:
    """Pod web's net1 and pod webnet1 had the same once."""

    async def scenario() -> None:
        first = await site.allocator.acquire(_request(site, "web"))
        other = _request(site, "web", container="other", ifname="net1")
        assert first.record.host_link == "cali-web"
        assert (await site.allocator.acquire(other)).record.host_link == "cali-web-other"

    run(scenario())


def test_a_ledger_that_cannot_be_written_reserves_nothing(site: Site) -> None:
    async def scenario() -> None:
        (await site.allocator.acquire(_request(site, "first"))).release()  # so that there is something
        write = site.rig.ledger.write

        def refuse(changes: Changes) -> None:
            if changes.attachments:
                raise LedgerError("the disk is full")
            write(changes)

        site.rig.ledger.write = refuse  # type: ignore[method-assign]
        with pytest.raises(LedgerError, match="the disk is full"):
            await site.allocator.acquire(_request(site, "web"))
        assert not site.rig.journal.book.attachments
        site.rig.ledger.write = write  # type: ignore[method-assign]
        await site.allocator.acquire(_request(site, "web"))

    run(scenario())


def test_who_hangs_up_leaves_nothing(site: Site) -> None:
    async def scenario() -> None:
        asking = [asyncio.create_task(site.allocator.acquire(_request(site, f"web-{i}"))) for i in range(3)]
        await asyncio.sleep(0)
        waiting = [task for task in asking if not task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        served = {task.result().record.key for task in asking if not task.cancelled()}
        assert set(site.rig.journal.book.attachments) == served
        await site.rig.settle()
        assert set(site.rig.journal.book.attachments) == served

    run(scenario())
