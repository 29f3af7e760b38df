"""A node without links, whose rules are written by nft and iptables and read by the product. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from datapath import namespace
from datapath.firewall import Firewall, Obstacle
from tests.netns.datapath.conftest import machine_untouched

__all__ = ["machine_untouched"]

PODS = (ip_network("10.0.0.0/16"), ip_network("2001:db8:10::/48"))
STACK = (ip_network("172.21.0.0/20"), ip_network("fd00:21::/112"), ip_network("10.0.255.1/32"))
ENIS = frozenset({"eth1", "eth2"})

PROGRAMS = ("nft", "iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy")


class Node:
    """Made by the fixture ``node``."""

    def __init__(self, netns: int) -> None:
        self.netns = netns
        self.firewall = Firewall(netns)

    def run(self, *command: str, text: str | None = None) -> str:
        with namespace.entered(self.netns):
            done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        assert not done.returncode, f"{command}: {done.stderr}"
        return done.stdout

    def nft(self, text: str) -> None:
        self.run("nft", "-f", "-", text=text)

    def restore(self, variant: str, text: str) -> None:
        """``variant``: "iptables-nft" or the like."""
        program, kind = variant.split("-")
        self.run(f"{program}-{kind}-restore", text=text)

    def link(self, name: str) -> None:
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")

    def obstacles(self) -> tuple[Obstacle, ...]:
        return self.firewall.obstacles(pods=PODS, stack=STACK, devices=ENIS)

    def found(self) -> list[str]:
        """Where, and what is done there."""
        return [f"{one.where}: {one.what}" for one in self.obstacles()]


@pytest.fixture
def node() -> Iterator[Node]:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    assert not missing, f"install nftables and iptables: {missing}"
    netns = namespace.new()
    made = Node(netns)
    try:
        yield made
    finally:
        made.firewall.close()
        os.close(netns)
