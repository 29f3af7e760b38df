"""ADD and DEL that are cut short, doubled or of more than one interface."""

from __future__ import annotations

import asyncio

import pytest

from control.agent.allocation.queue import Attempt
from control.agent.cni.attach import AddRequest, Attached
from control.ipam import transitions
from control.model.errors import KernelError
from control.model.ids import AttachmentKey
from control.model.records import AddressState, AttachmentState, Changes
from datapath.endpoint import Endpoint
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_review_upkeep import upkeep_of
from tests.unit.control_agent.test_use_cases import run


async def _add(rig: Rig, name: str, container: str, ifname: str) -> Attached:
    pod = rig.knows(name)
    return await rig.attachments.add(AddRequest(AttachmentKey(container, ifname), pod, "", "/run/netns/x", 0))


def test_two_interfaces_of_one_pod_have_two_addresses() -> None:
    async def scenario() -> None:
        rig = Rig()
        first = await _add(rig, "web-0", "c", "eth0")
        second = await _add(rig, "web-0", "c", "net1")
        assert first.record.ipv4 != second.record.ipv4
        rig.assert_agree()

    run(scenario())


def test_add_called_off_in_the_moment_it_is_served_leaves_no_reservation() -> None:
    """A failed ADD left an IP nobody could name: Azure acn 633."""

    async def scenario() -> None:
        rig = Rig()
        serve = rig.pool._queue.serve
        adding: asyncio.Task[Attached]

        def serve_and_hang_up(attempt: Attempt) -> None:
            waiting = len(rig.journal.book.attachments)
            serve(attempt)
            if len(rig.journal.book.attachments) > waiting:
                adding.cancel()

        rig.pool._queue.serve = serve_and_hang_up  # type: ignore[method-assign]  # the worst moment
        adding = asyncio.create_task(rig.add("web-0"))
        with pytest.raises(asyncio.CancelledError):
            await adding
        await rig.settle()
        assert not rig.journal.book.attachments
        assert rig.pool.stats().in_use == 0
        rig.assert_agree()

    run(scenario())


def test_unwinding_that_fails_keeps_the_intent_tells_the_first_cause_and_is_finished_later() -> None:
    async def scenario() -> None:
        rig = Rig()
        teardown = rig.kernel.teardown

        def refuse(endpoint: Endpoint, netns: int | None) -> None:
            del endpoint, netns
            raise KernelError("delete the link: Device or resource busy")

        rig.kernel.broken = "no route to the gateway"
        rig.kernel.teardown = refuse  # type: ignore[method-assign]  # the kernel refuses both ways
        with pytest.raises(KernelError, match="no route to the gateway"):
            await rig.add("web-0")
        (record,) = rig.journal.book.attachments.values()
        assert record.state is AttachmentState.ADDING, "the kernel may have something of it"
        rig.kernel.teardown = teardown  # type: ignore[method-assign]
        rig.clock.advance(121)
        await upkeep_of(rig).collect()
        assert not rig.journal.book.attachments
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_address_of_a_failed_add_cools_if_a_pod_had_it_a_moment_ago() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        old = (await rig.add("web-0", container="old")).record
        rig.kernel.broken = "no route to the gateway"
        with pytest.raises(KernelError):
            await rig.add("web-0", container="new")
        rig.kernel.broken = ""
        assert (await rig.add("web-1")).record.ipv4 != old.ipv4
        assert (await rig.add("web-0", container="newer")).record.ipv4 == old.ipv4

    run(scenario())


def test_new_sandbox_does_not_take_over_an_address_that_the_cloud_has_lost() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.add("web-0")
        old = (await rig.add("web-1", container="old")).record
        assert old.ipv4 is not None
        lost = [rig.journal.book.addresses[old.ipv4]]
        rig.journal.record(transitions.freeze_addresses(lost, rig.clock.now()))
        new = (await rig.add("web-1", container="new")).record
        assert new.ipv4 != old.ipv4
        assert rig.journal.book.addresses[old.ipv4].state is AddressState.FROZEN

    run(scenario())


def test_a_repeated_add_whose_eni_is_gone_is_told_so() -> None:
    """As CHECK tells it, and not as something that nobody foresaw."""

    async def scenario() -> None:
        rig = Rig()
        record = (await rig.add("web")).record
        await rig.settle()
        rig.journal.record(Changes(gone_enis=(record.eni_id,)))
        with pytest.raises(KernelError, match=f"the ENI {record.eni_id} of default/web is gone"):
            await rig.add("web")

    run(scenario())
