"""The kernel's own stack behind a member: TCP with and without offloads, tagged as by upstream's filters."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from datapath.ebpf.libbpf import Direction
from tests.netns.fabric import trunk as t
from tests.netns.fabric.net import ADDRESS, GATEWAY, A, B, Net, wait_for
from tests.netns.fabric.test_traffic import (
    AMOUNT,
    FAMILIES,
    FAMILY,
    GATEWAYS,
    IFA_F_NODAD,
    open_socket,
    receives,
    receiving,
    sysctl,
)
from tests.netns.fabric.trunk import FIRST

TAGGING = {Direction.EGRESS: "push_by_source", Direction.INGRESS: "pop"}
NUD_PERMANENT = 0x80


def _address(name: str, family: int) -> str:
    return t.ADDRESS[FIRST, family] if name == A else ADDRESS[B, family]


@pytest.fixture
def hosts(net: Net, tmp_path: Path) -> Iterator[Net]:
    """A has a member's addresses on its device, and a tag for them; B its own. Bare again afterwards."""
    net.reset(t.trunk_view(t.member(FIRST)))
    for name in (A, B):
        net.set_mtu(name, 1500)
        with namespace.entered(net.namespaces[name]), IPRoute() as netlink:
            sysctl("net/ipv6/conf/eth0/disable_ipv6", 0)
            index = netlink.link_lookup(ifname="eth0")[0]
            for family in (4, 6):
                _configure(netlink, index, name, family)
            wait_for(partial(receives, _address(name, 6)), f"{name} to receive by IPv6")
    try:
        with t.hooked(net, t.compiled(t.VLAN[FIRST], tmp_path), TAGGING):
            yield net
    finally:
        net.fabric.wire(False)
        for name in (A, B):
            with namespace.entered(net.namespaces[name]), IPRoute() as netlink:
                index = netlink.link_lookup(ifname="eth0")[0]
                for family in (4, 6):
                    netlink.neigh("del", dst=GATEWAYS[family], ifindex=index)
                netlink.flush_addr(index=index)
                sysctl("net/ipv6/conf/eth0/disable_ipv6", 1)


def _configure(netlink: IPRoute, index: int, name: str, family: int) -> None:
    length, flags = (32, 0) if family == 4 else (128, IFA_F_NODAD)
    where = {"index": index, "family": FAMILY[family]}
    netlink.addr("add", address=_address(name, family), prefixlen=length, flags=flags, **where)
    netlink.neigh("replace", dst=GATEWAYS[family], lladdr=GATEWAY, ifindex=index, state=NUD_PERMANENT)
    gateway = {"gateway": GATEWAYS[family], "flags": ["onlink"], "family": FAMILY[family]}
    netlink.route("replace", dst="default", oif=index, **gateway)


def _stream(net: Net, family: int, source: str, target: str) -> int:
    """Send AMOUNT bytes by TCP; how many arrived."""
    with open_socket(net, target, family, socket.SOCK_STREAM) as server:
        server.bind((_address(target, family), 0))
        server.listen()
        with (
            receiving(server) as received,
            open_socket(net, source, family, socket.SOCK_STREAM) as client,
        ):
            client.bind((_address(source, family), 0))
            client.connect(server.getsockname()[:2])
            client.sendall(bytes(AMOUNT))
    return sum(received)


@FAMILIES
@pytest.mark.parametrize("wire", [False, True], ids=["offloads", "wire"])
@pytest.mark.parametrize(("source", "target"), [(A, B), (B, A)], ids=["from the member", "to the member"])
def test_bulk_tcp_of_a_member(hosts: Net, family: int, wire: bool, source: str, target: str) -> None:
    hosts.fabric.wire(wire)
    before, drops = hosts.fabric.counters(FIRST)["forwarded"], hosts.fabric.drops()
    with hosts.fabric.capture(A) as tap:
        assert _stream(hosts, family, source, target) == AMOUNT
        lengths = [len(frame.data) for frame in tap.waiting() if frame.data[12:14] == b"\x81\x00"]
    assert hosts.fabric.counters(FIRST)["forwarded"] > before
    assert hosts.fabric.drops() == drops
    assert (max(lengths) > 1518) != wire, (
        "with offloads frames are longer than the MTU, on a wire they are not"
    )
