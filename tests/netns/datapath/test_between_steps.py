"""Pods and ENIs that come and go at any of a round's pauses: nothing is undone, and nobody is blamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from datapath.difference import Difference
from datapath.endpoint import Endpoint
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import index_of, running
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    HOST,
    HOST_V6,
    World,
    eni_link,
    policy_route,
    shared,
    witness,
)


def paused(
    mode: NodeDatapath, endpoints: list[Endpoint], at: int, then: Callable[[], object]
) -> tuple[tuple[Difference, ...], bool]:
    """A round, at whose pause number ``at`` the other thing happens; whether there was such a pause."""
    round_, count = mode.repairing(endpoints), 0
    while True:
        try:
            next(round_)
        except StopIteration as end:
            return end.value, count > at
        if count == at:
            then()
        count += 1


def in_tables(world: World) -> set[str]:
    """Routes of all tables but main, where the kernel has its own of each address."""
    return {one for one in world.snapshot(world.node)["routes"] if not one.endswith("table 254")}


def every_pause(happens: Callable[[int], bool]) -> None:
    assert happens(0), "a round has pauses"
    at = 1
    while happens(at):
        at += 1


def test_a_pod_that_is_deleted_is_not_undone(world: World, mode: NodeDatapath) -> None:
    """Something of it, and of another pod, is out of order, so that the round has work for both."""
    stays, _ = running(world, mode)
    before = world.snapshot(world.node)

    def deleted(at: int) -> bool:
        goes, _pod = running(world, mode)
        with witness(world.node) as reader:
            reader.flush_routes(table=512, family=2)
            reader.rule("del", priority=2048, src=f"{goes.ipv4}/32")
        _, more = paused(mode, [stays, goes], at, lambda: mode.teardown(goes, None))
        if more:
            mode.flush()
            assert world.snapshot(world.node) == before, f"at pause {at}"
        else:
            mode.teardown(goes, None)
        policy_route(mode)._rounds.patience._times.clear()
        return more

    every_pause(deleted)


def test_a_deletion_is_no_disorder(world: World, mode: NodeDatapath) -> None:
    """A foreign rule makes the round compare all; the pod that goes was in order."""
    stays, _ = running(world, mode)

    def deleted(at: int) -> bool:
        goes, _pod = running(world, mode)
        done, more = paused(mode, [stays, goes], at, lambda: mode.teardown(goes, None))
        assert done == (), f"at pause {at}"
        if not more:
            mode.teardown(goes, None)
        mode.flush()
        return more

    every_pause(deleted)


def test_the_end_of_a_namespace_is_no_disorder(world: World, mode: NodeDatapath) -> None:
    stays, _ = running(world, mode)

    def ended(at: int) -> bool:
        goes = world.endpoint(ENI1)
        with world.passing() as pod:
            mode.setup(goes, pod)
            index = index_of(world, goes.host_link)

            def end() -> None:
                with witness(world.node) as reader:
                    reader.link("del", index=index)

            done, more = paused(mode, [stays, goes], at, end)
        found = {one.found for one in done} - {"left behind: no pod has this address"}  # its rules, which did
        assert found == set(), f"at pause {at}"
        assert mode.foreign == (), f"at pause {at}: no hand has led its packets astray"
        mode.teardown(goes, None)
        return more

    every_pause(ended)


@pytest.fixture
def alone(world: World) -> Iterator[NodeDatapath]:
    """With one ENI of two."""
    made = NodeDatapath(world.node)
    made.prepare((HOST, HOST_V6))
    made.prepare_uplink(shared(eni_link(ENI1)))
    yield made
    made.close()


def test_an_eni_that_comes_was_not_out_of_order(world: World, alone: NodeDatapath) -> None:
    stays, _ = running(world, alone)

    def comes(at: int) -> bool:
        done, more = paused(alone, [stays], at, lambda: alone.prepare_uplink(shared(eni_link(ENI2))))
        assert done == (), f"at pause {at}"
        assert alone.repair([stays]) == (), f"at pause {at}"
        alone.forget_uplink(ENI2.mac)
        running(world, alone)  # or nothing is compared
        return more

    every_pause(comes)


def test_an_eni_that_is_forgotten_is_not_undone(world: World, alone: NodeDatapath) -> None:
    stays, _ = running(world, alone)
    before = in_tables(world)

    def goes(at: int) -> bool:
        alone.prepare_uplink(shared(eni_link(ENI2)))
        with witness(world.node) as reader:
            reader.flush_routes(table=1000 + index_of(world, "eni2"), family=2)
        _, more = paused(alone, [stays], at, lambda: alone.forget_uplink(ENI2.mac))
        policy_route(alone)._rounds.patience._times.clear()
        if more:
            assert in_tables(world) == before, f"at pause {at}"
        alone.forget_uplink(ENI2.mac)
        return more

    every_pause(goes)
