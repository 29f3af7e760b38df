"""A world per test, and a mode that is prepared in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from datapath.modes.policy_route import PolicyRoute
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, World, eni_link


@pytest.fixture
def world() -> Iterator[World]:
    if os.geteuid():
        pytest.skip("namespaces need root")
    made = World()
    yield made
    made.close()


@pytest.fixture
def mode(world: World) -> Iterator[PolicyRoute]:
    made = PolicyRoute(world.node)
    made.prepare_node((HOST, HOST_V6))
    for card in (ENI1, ENI2):
        made.prepare_eni(eni_link(card), (HOST, HOST_V6))
    yield made
    made.close()
