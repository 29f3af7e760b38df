"""The kernel port over a real kernel, in namespaces, and over the fake that is shipped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from control.agent.dataplane.fake_kernel import FakeKernel
from control.agent.dataplane.kernel import LinuxKernel
from control.agent.dataplane.ports import NodeKernel
from control.model.ids import Mac
from datapath.difference import Difference
from datapath.endpoint import Endpoint, Mode
from datapath.modes.port import ModePort
from datapath.modes.table import MODES
from tests.contract.kernel.tiny import PREFIX, TINY, Tiny
from tests.netns.datapath.own_eni import macvlan_pod
from tests.netns.datapath.world import ENI1, ENI2, ETH0, HOST, HOST_V6, Card, World, eni_link, shared

THREE: Mapping[str, type[ModePort]] = {**MODES, TINY: Tiny}


@dataclass(frozen=True, slots=True)
class Site:
    """A node with two ENIs that are prepared, and pods to be set up on it."""

    kernel: NodeKernel
    world: World
    directory: Path

    def pod(self, mode: str, card: Card = ENI1, **changes: Any) -> tuple[Endpoint, int]:
        if mode == Mode.MACVLAN:
            made = macvlan_pod(self.world, self.directory, card, **changes)
            return made.endpoint, made.netns
        endpoint = self.world.endpoint(card, mode=mode, **changes)
        if mode == TINY:
            endpoint = replace(endpoint, host_link=endpoint.host_link.replace("cali", PREFIX))
        return endpoint, self.world.namespace()

    def repair(self, *endpoints: Endpoint) -> tuple[Difference, ...]:
        return asyncio.run(_repaired(self.kernel, endpoints))


async def _repaired(kernel: NodeKernel, endpoints: tuple[Endpoint, ...]) -> tuple[Difference, ...]:
    return await kernel.repair(endpoints)


@pytest.fixture(params=["fake", "linux"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if os.geteuid():
        pytest.skip("namespaces need root")
    world = World()
    kernel: NodeKernel = FakeKernel(THREE)
    if request.param == "linux":
        kernel = LinuxKernel(world.node, modes=THREE)
        kernel.prepare_node(Mac(ETH0.mac), (HOST, HOST_V6), ipv6=True)
    for card in (ENI1, ENI2):
        kernel.prepare_uplink(shared(eni_link(card)))
    yield Site(kernel, world, tmp_path)
    if isinstance(kernel, LinuxKernel):
        kernel.close()
    world.close()
