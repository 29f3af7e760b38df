"""A world per test, a mode that is prepared in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from datapath import namespace, sysctl
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, World, eni_link, shared, snapshot


@pytest.fixture(autouse=True, scope="session")
def machine_untouched() -> Iterator[None]:
    """The namespace that the tests are run in is afterwards as it was before."""
    netns = namespace.own()
    before = snapshot(netns)
    settings = read_settings()
    yield
    after = snapshot(netns)
    os.close(netns)
    assert after == before
    assert read_settings() == settings


def read_settings() -> dict[str, str]:
    names = ("forwarding", "rp_filter")
    return {
        f"{link}/{name}": sysctl.read(f"net/ipv4/conf/{link}/{name}")
        for link in ("all", "default", *sysctl.links("ipv4"))
        for name in names
    }


@pytest.fixture
def world() -> Iterator[World]:
    if os.geteuid():
        pytest.skip("namespaces need root")
    made = World()
    yield made
    made.close()


@pytest.fixture
def mode(world: World) -> Iterator[NodeDatapath]:
    made = NodeDatapath(world.node)
    made.prepare((HOST, HOST_V6))
    for card in (ENI1, ENI2):
        made.prepare_uplink(shared(eni_link(card)))
    yield made
    made.close()
