"""What becomes of the kernel's word: a repair, whatever happens to whoever reads it."""

from __future__ import annotations

import asyncio

import pytest

from control.agent.dataplane.kernel import LinuxKernel
from control.model.ids import Mac
from datapath import namespace, sysctl
from datapath.errors import KernelError
from datapath.modes.port import Reaction
from datapath.node_datapath import NodeDatapath
from tests.contract.kernel.conftest import Site
from tests.netns.datapath.world import ETH0, HOST, witness
from tests.pace import patience


@pytest.mark.parametrize(
    "refusal", [KernelError("read a setting"), ValueError("of a kind that nobody knows")]
)
def test_what_cannot_be_followed_is_a_reason_to_look(
    site: Site, refusal: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = site.kernel
    if not isinstance(kernel, LinuxKernel):
        pytest.skip("the fake hears of nobody")
    read = NodeDatapath.react

    def react(datapath: NodeDatapath) -> Reaction:
        read(datapath)
        raise refusal

    monkeypatch.setattr(NodeDatapath, "react", react)
    assert asyncio.run(_first(kernel, site)).repair


async def _first(kernel: LinuxKernel, site: Site) -> Reaction:
    told: asyncio.Queue[Reaction] = asyncio.Queue()
    kernel.watch(told.put_nowait)
    await asyncio.to_thread(_meddle, site)
    try:
        async with asyncio.timeout(patience(10)):
            return await told.get()
    finally:
        _end(kernel)


def _meddle(site: Site) -> None:
    with witness(site.world.node) as reader:
        reader.rule("del", priority=512)


def _end(kernel: LinuxKernel) -> None:
    """Within the loop: the fixture closes the kernel after its end."""
    kernel._end_watch()
    kernel._end_watch = lambda: None


def test_a_pod_that_makes_events_without_end_does_not_have_the_loop(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are passes of the loop: what is read is followed by more at once."""
    kernel, read = site.kernel, []
    if not isinstance(kernel, LinuxKernel):
        pytest.skip("the fake hears of nobody")

    def react(datapath: NodeDatapath) -> Reaction:
        del datapath
        read.append(True)
        return Reaction()

    async def scenario() -> None:
        kernel.watch(lambda _reaction: None)
        await asyncio.to_thread(_meddle, site)
        while not read:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(read) < 10
        while len(read) < 20:  # and those that come are read
            await asyncio.sleep(0.01)
        _end(kernel)

    monkeypatch.setattr(NodeDatapath, "react", react)
    asyncio.run(scenario())


def test_a_primary_eni_whose_driver_is_bound_anew_is_looked_after(site: Site) -> None:
    """Its link has another number, and what a new link begins with."""
    kernel = site.kernel
    if not isinstance(kernel, LinuxKernel):
        pytest.skip("the fake has no link of the node's own")
    with witness(site.world.node) as reader:
        reader.link("del", ifname="eth0")
        reader.link("add", ifname="eth0", kind="veth", address=ETH0.mac, peer={"ifname": "wire"})
        (index,) = reader.link_lookup(ifname="eth0")
        reader.addr("add", index=index, address=str(HOST), prefixlen=24)
    assert kernel.home_addresses(Mac(ETH0.mac)) == (HOST,)
    site.repair()
    with namespace.entered(site.world.node):
        sysctl.write("net/ipv4/conf/eth0/rp_filter", "1")
    assert [one.what for one in site.repair()] == ["sysctl net/ipv4/conf/eth0/rp_filter"]
