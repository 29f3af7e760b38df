"""A host link that somebody has renamed is its sandbox's all the same: for ADD and DEL, recorded or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datapath.endpoint import Endpoint, EndpointId
from datapath.errors import NameTaken
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import index_of, running
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import OUTSIDE, World, witness


def rename(world: World, endpoint: Endpoint) -> int:
    index = index_of(world, endpoint.host_link)
    with witness(world.node) as reader:
        reader.link("set", index=index, ifname="renamed0")
    return index


@pytest.mark.parametrize("changed", [{}, {"ifalias": "somebody's"}, {"address": "02:00:00:00:be:ef"}])
def test_a_repeated_setup_gives_the_link_its_name_back(
    world: World, mode: NodeDatapath, changed: dict[str, str]
) -> None:
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    index = rename(world, endpoint)
    if changed:
        with witness(world.node) as reader:
            reader.link("set", index=index, **changed)
    mode.setup(endpoint, pod)
    assert world.snapshot(world.node) == before
    told = {one.what for one in mode.repair([endpoint])}
    assert f"link {endpoint.host_link}" in told, "what an ADD puts right by the way the next round tells"
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_another_plugins_interface_is_nobodys_renamed_link(world: World, mode: NodeDatapath) -> None:
    endpoint, pod = running(world, mode)
    other = replace(endpoint, container_id="f" * 64, host_link="cali0123456789a", ipv4=None)
    rename(world, endpoint)
    before = world.snapshot(world.node)
    with pytest.raises(NameTaken):
        mode.setup(other, pod)
    assert world.snapshot(world.node) == before


def test_a_new_sandbox_takes_over_from_one_whose_link_was_renamed(world: World, mode: NodeDatapath) -> None:
    """Its address is its own, by whatever link it is carried."""
    endpoint, _old = running(world, mode)
    rename(world, endpoint)
    pod, later = world.namespace(), replace(endpoint, container_id="e" * 64)
    mode.setup(later, pod)
    mode.flush()
    assert "renamed0" not in world.snapshot(world.node)["links"]
    assert mode.check(later, pod) == ()
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_teardown_finds_a_renamed_link(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    endpoint, _ = running(world, mode)
    rename(world, endpoint)
    mode.teardown(endpoint, None)
    mode.flush()
    assert world.snapshot(world.node) == before


def test_what_runs_without_a_record_is_taken_down_by_its_mac(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    endpoint, _ = running(world, mode)
    rename(world, endpoint)
    taken = mode.take_down(EndpointId(endpoint.key, endpoint.mode, endpoint.host_link))
    mode.flush()
    assert set(taken) == set(endpoint.addresses())
    assert world.snapshot(world.node) == before
