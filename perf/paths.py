"""The paths that packets are measured on: loopback, a cable, and a node with the fast path and without."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from datapath import namespace
from datapath.acceleration.companion import Companion, Prefixes
from datapath.acceleration.path import FastPath
from datapath.endpoint import Endpoint, EniLink, Mode, SharedEni
from datapath.netlink import address, link, neighbour, route
from datapath.netlink.address import Assigned
from datapath.netlink.link import End
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Route
from datapath.netlink.socket import Socket
from datapath.netlink.wire import host_network
from datapath.node_datapath import NodeDatapath
from datapath.pod.names import host_link_name

HOST, AWAY = IPv4Address("10.0.1.10"), IPv4Address("203.0.113.10")
ENI_MAC, GATEWAY_MAC = "00:16:3e:00:00:11", "ee:ff:ff:ff:ff:ff"
ENI = EniLink(ENI_MAC, IPv4Address("10.0.1.253"))
UPLINK = SharedEni("eni-1", ENI)
LEARN_TIMEOUT = 10.0
LOOPBACK, ROUTED = "loopback", "routed"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Way:
    """A path that is measured: who calls whom by which address. ``near``: both are on one node."""

    name: str
    client: int
    server: int
    address: str
    near: bool = True


@dataclass(frozen=True, slots=True)
class _Node:
    """Two pods of one ENI, and a host right behind it."""

    pods: tuple[int, int]
    addresses: tuple[IPv4Address, IPv4Address]
    away: int


def ways(stack: ExitStack, scratch: Path) -> Sequence[Way]:
    """All of it, until ``stack`` ends; ``scratch`` is an empty directory."""
    fast = stack.enter_context(_node(scratch / "bpf"))
    routed = stack.enter_context(_node(None))
    found = [Way(LOOPBACK, fast.pods[1], fast.pods[1], "127.0.0.1"), _veth(stack)]
    for name, node in (("fast path", fast), (ROUTED, routed)):
        found.append(Way(name, *node.pods, str(node.addresses[1])))
        found.append(Way(f"{name}, off node", node.pods[0], node.away, str(AWAY), near=False))
    return found


def new_namespace(stack: ExitStack) -> int:
    """With ``lo`` up; closed with ``stack``."""
    made = namespace.new()
    stack.callback(os.close, made)
    with Socket(made) as netlink:
        netlink.one(link.change(1, up=True))
    return made


def _veth(stack: ExitStack) -> Way:
    """Two namespaces and a cable: the least that any pair of veths costs."""
    ends = [new_namespace(stack), new_namespace(stack)]
    with Socket(ends[0]) as here, Socket(ends[1]) as there:
        macs = "02:00:00:00:00:01", "02:00:00:00:00:02"
        here.one(link.create_veth(End("eth0", macs[0]), End("eth0", macs[1]), netns=ends[1], mtu=1500))
        for number, socket in enumerate((here, there), 1):
            found = link.find(socket, "eth0")
            assert found is not None
            own, other = (IPv4Address(f"10.0.9.{n}") for n in (number, 3 - number))
            socket.transact(
                link.change(found.index, up=True),
                address.add(Assigned(own, 32, found.index, device="eth0")),
                route.add(Route(host_network(other), found.index, MAIN, device="eth0")),
            )
    return Way("one veth", ends[0], ends[1], "10.0.9.2")


@contextmanager
def _node(bpffs: Path | None) -> Iterator[_Node]:
    """With the fast path on, pinned in a bpf file system mounted at ``bpffs``; None: by routing alone."""
    with ExitStack() as stack:
        node, away, *pods = (new_namespace(stack) for _ in range(4))
        _cable(node, away)
        datapath = NodeDatapath(node)
        if bpffs is not None:
            pins = stack.enter_context(bpf_file_system(bpffs))
            datapath.accelerator.open(pins / "terway", Prefixes())
        stack.callback(datapath.close)
        datapath.prepare((HOST,))
        datapath.prepare_uplink(UPLINK)
        for number, netns in enumerate(pods, 1):
            datapath.setup(_endpoint(number), netns)
        if bpffs is not None:
            _await_gateway(datapath.accelerator)
            datapath.accelerator.fast.switch(True)
        yield _Node((pods[0], pods[1]), (HOST + 1, HOST + 2), away)


def _await_gateway(accelerator: Companion) -> None:
    """Until its MAC is known, as a node does: packets would ask the neighbour table each time."""
    deadline = time.monotonic() + LEARN_TIMEOUT
    while not accelerator.learn():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no MAC of gateway {ENI.gateway} in {LEARN_TIMEOUT:.0f} s")
        time.sleep(0.01)


def _endpoint(number: int) -> Endpoint:
    name = host_link_name("perf", f"pod-{number}", "eth0")
    return Endpoint(name, "eth0", f"{number:064x}", Mode.POLICY_ROUTE, UPLINK, HOST + number)


def _cable(node: int, away: int) -> None:
    """The ENI and what the VPC is: a host that knows every pod by the ENI's MAC."""
    with Socket(node) as inside, Socket(away) as outside:
        ends = End("eni1", ENI_MAC), End("port", GATEWAY_MAC)
        inside.one(link.create_veth(*ends, netns=away, mtu=1500))
        port = link.find(outside, "port")
        assert port is not None
        pods = [HOST + number for number in (1, 2)]
        outside.transact(
            link.change(port.index, up=True),
            address.add(Assigned(AWAY, 32, 1, device="lo")),
            address.add(Assigned(ENI.gateway, 32, port.index, device="port")),
            *(route.add(Route(host_network(one), port.index, MAIN, device="port")) for one in pods),
            *(neighbour.add(Neighbour(one, ENI_MAC, port.index, device="port")) for one in pods),
        )


@contextmanager
def bpf_file_system(path: Path) -> Iterator[Path]:
    """A new directory with one mounted on it."""
    path.mkdir()
    if _libc.mount(b"bpf", str(path).encode(), b"bpf", 0, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    try:
        yield path
    finally:
        _libc.umount2(str(path).encode(), 2)


@contextmanager
def fast_path(bpffs: Path, node: int) -> Iterator[FastPath]:
    with bpf_file_system(bpffs), FastPath.open(bpffs / "terway", netns=node) as fast:
        yield fast
