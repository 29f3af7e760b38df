"""Pins that go while no agent is there: the next one finds the maps by the programs that are attached."""

from __future__ import annotations

import shutil

import pytest

from datapath.acceleration import remove_fast_path, tc
from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.inspection import Inspection
from datapath.ebpf import libbpf
from datapath.netlink.socket import Socket
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2
from tests.netns.fastpath.builds import OTHER, VERSION, build
from tests.netns.fastpath.flood import Flood
from tests.netns.fastpath.node import FastNode

GONE = {
    "all": ("",),
    "a layout": (f"v{VERSION}",),
    "a map": (f"v{VERSION}/pods", f"v{VERSION}/endpoints"),
    "an impostor": (f"v{VERSION}/pods",),
    "the last name": (f"v{VERSION}/prog_stack_egress",),
}


@pytest.mark.parametrize("gone", GONE)
def test_pods_are_served_on(node: FastNode, gone: str) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    node.put(other, fast=False)
    rows = node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()
    exchange(one.netns, other.netns, other.address(4))
    counts = node.fast.endpoint_counters()
    with Flood(one.netns, other.netns, other.address(4)) as flood:
        node.close()
        for name in GONE[gone]:
            path = node.pins / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if gone == "an impostor":
            (node.pins / f"v{VERSION}/endpoint_counts").rename(node.pins / f"v{VERSION}/pods")
        node.open()
        sent, rate, lost = flood.stop()
    assert lost == 0, f"of {sent} at {rate:.0f} per second"
    assert (node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()) == rows
    assert all(
        node.fast.endpoint_counters()[i].stack_packets >= one.stack_packets for i, one in counts.items()
    )


def test_another_build_finds_them_too(node: FastNode, tmp_path_factory: pytest.TempPathFactory) -> None:
    pod = node.pod(ENI1)
    node.close()
    shutil.rmtree(node.pins)
    node.reopen(build(tmp_path_factory.mktemp("other"), *OTHER))
    assert list(node.fast.endpoints()) == [pod.applied.host_ifindex]


def test_programs_without_pins_are_taken_away(node: FastNode) -> None:
    """By an agent that has eBPF switched off: nobody would tell them of pods that come and go."""
    one, other = node.pod(ENI1), node.pod(ENI2)
    node.close()
    shutil.rmtree(node.pins)
    assert remove_fast_path(node.pins, netns=node.world.node)
    with Socket(node.world.node) as netlink:
        assert BLOCKS not in tc.list_clsact(netlink).values()
    exchange(one.netns, other.netns, other.address(4))
    assert not remove_fast_path(node.pins, netns=node.world.node)
    node.open()


def test_names_among_the_links_that_are_none_are_passed_over(node: FastNode) -> None:
    """A directory that somebody made, and what a kill left of a pin that was about to be renamed."""
    links, eni = node.pins / "links", node.enis[ENI1.name]
    links.joinpath("ingress_999").mkdir()
    fd = node.fast.program_fd("eni_ingress")
    libbpf.pin(fd, str(links / f"fresh_ingress_{eni}"))
    libbpf.pin(fd, str(links / "egress_998"))
    node.reopen()
    assert eni in node.fast.attached()
    found = Inspection(node.fast.directory, node.fast.names, node.world.node).attachments()
    assert {one.ifindex for one in found if one.how == "tcx"} <= set(node.enis.values())
    node.fast.detach_eni(999)
    node.fast.remove()
    assert not links.exists()
