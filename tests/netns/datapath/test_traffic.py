"""Packets of pods arrive, by the right ENI, in both families."""

from __future__ import annotations

import pytest

from datapath.endpoint import Endpoint
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, OUTSIDE, OUTSIDE_V6, Address, Card, World

VERSIONS = (4, 6)


def address(endpoint: Endpoint, version: int) -> Address:
    found = endpoint.ipv4 if version == 4 else endpoint.ipv6
    assert found is not None
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_pods_of_a_node_talk(world: World, mode: NodeDatapath, version: int) -> None:
    here, there = world.namespace(), world.namespace()
    one, other = world.endpoint(ENI1), world.endpoint(ENI2)
    mode.setup(one, here)
    mode.setup(other, there)
    assert exchange(here, there, address(other, version)) == str(address(one, version))
    assert exchange(there, here, address(one, version), size=4000) == str(address(other, version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("card", [ENI1, ENI2], ids=["eni1", "eni2"])
def test_pod_leaves_by_its_eni(world: World, mode: NodeDatapath, card: Card, version: int) -> None:
    pod = world.namespace()
    endpoint = world.endpoint(card)
    mode.setup(endpoint, pod)
    outside = OUTSIDE if version == 4 else OUTSIDE_V6
    before = world.received_by_router()
    for _ in range(30):
        assert exchange(pod, world.router, outside) == str(address(endpoint, version))
    after = world.received_by_router()
    for port, count in after.items():
        # A few packets of neighbour discovery may go by any port.
        assert (count - before[port] >= 30) == (port == card.port), (port, before, after)


@pytest.mark.parametrize("version", VERSIONS)
def test_outside_reaches_the_pod(world: World, mode: NodeDatapath, version: int) -> None:
    pod = world.namespace()
    endpoint = world.endpoint(ENI2)
    mode.setup(endpoint, pod)
    exchange(world.router, pod, address(endpoint, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_host_and_pod_talk(world: World, mode: NodeDatapath, version: int) -> None:
    pod = world.namespace()
    endpoint = world.endpoint(ENI2)
    mode.setup(endpoint, pod)
    host = HOST if version == 4 else HOST_V6
    assert exchange(world.node, pod, address(endpoint, version)) == str(host)
    assert exchange(pod, world.node, host) == str(address(endpoint, version))
