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
    assert "unknown outcome" not in rough.causes | calm.causes
    weather.clock(world, node=1, who="both", seconds=3_700)
    assert "unknown outcome" in rough.causes, "the cloud's clock is everybody's"
    assert "unknown outcome" not in calm.causes


def _world() -> World:
    lab = cast(Lab, SimpleNamespace(cloud=SimpleNamespace(advance=lambda _seconds: 0.0)))
    node = cast(LabNode, SimpleNamespace(name="node"))
    rough, calm = (_Still(lab, node, f"i-{n}", "", False) for n in range(2))
    return World(lab, (rough, calm))
