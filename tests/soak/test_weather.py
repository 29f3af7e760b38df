"""What a step's weather explains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from lab.client import Lab
from lab.nodes.node import LabNode
from tests.soak import weather
from tests.soak.site import Site
from tests.soak.world import World


class _Still(Site):
    """A site whose agent is not there."""

    def advance(self, seconds: float) -> None:
        pass


def test_clocks_that_jump_past_a_tokens_life_leave_what_was_cut_off_to_be_found() -> None:
    world = _world()
    rough, calm = world.sites
    weather.clock(world, node=0, who="agent", seconds=60_000)
    weather.clock(world, node=1, who="cloud", seconds=11_000)
    assert not weather.unknown_outcome(rough)
    assert not weather.unknown_outcome(calm)
    weather.clock(world, node=1, who="both", seconds=3_700)
    assert weather.unknown_outcome(rough), "the cloud's clock is everybody's"
    assert not weather.unknown_outcome(calm)


def test_faults_of_one_action_count_together() -> None:
    world = _world()
    rough = world.sites[0]
    weather.cloud_fault(world, node=0, action="CreateNetworkInterface", count=2, drop="after")
    weather.cloud_fault(world, node=0, action="AttachNetworkInterface", count=3, drop="after")
    assert not weather.unknown_outcome(rough)
    weather.cloud_fault(world, node=0, action="*", count=2, latency=12.0)
    assert weather.unknown_outcome(rough)


def test_an_eni_that_is_deleted_is_no_nodes() -> None:
    world = _world()
    weather.cloud_fault(world, node=0, action="DeleteNetworkInterface", count=1000, drop="after")
    assert all(weather.unknown_outcome(site) for site in world.sites)


def test_a_clock_that_jumps_ends_the_patience_with_what_has_failed() -> None:
    world = _world()
    rough, calm = world.sites
    weather.clock(world, node=0, who="cloud", seconds=3_700)
    assert not weather.unknown_outcome(rough)
    assert not weather.unknown_outcome(calm)
    weather.cloud_fault(world, node=0, action="CreateNetworkInterface", count=1, drop="after")
    assert weather.unknown_outcome(rough)
    assert not weather.unknown_outcome(calm)


def test_no_device_that_is_there_goes_by_a_lag() -> None:
    """An ENI plugged in a second ago was not there two seconds ago: it would get another ifindex."""
    told: list[str] = []
    world = _world()
    cloud = SimpleNamespace(
        advance=lambda seconds: told.append(f"{seconds} s go by"), set_delays=lambda **_: told.append("lag")
    )
    world.lab = cast(Lab, SimpleNamespace(cloud=cloud))
    weather.lag(world, view="device", seconds=2.0)
    assert told == ["3.0 s go by", "lag"]


def _world() -> World:
    cloud = SimpleNamespace(advance=lambda _seconds: 0.0, add_fault=lambda **_what: None)
    lab = cast(Lab, SimpleNamespace(cloud=cloud))
    node = cast(LabNode, SimpleNamespace(name="node"))
    rough, calm = (_Still(lab, node, f"i-{n}", "", False) for n in range(2))
    return World(lab, (rough, calm))
