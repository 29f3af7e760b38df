"""A small VPC for tests: two ENIs in one vSwitch, a third in another, a service and an outside.

The namespaces have IPv6 off and no addresses, so that nothing but the tests' own frames is on the links:
a count that moves has one cause.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from datapath import namespace
from lab.fabric import links
from lab.fabric.capture import with_tag
from lab.fabric.fabric import Fabric
from lab.fabric.view import FabricView, Port, PortKind, Subnet
from lab.spec import GATEWAY_MAC, RuleSpec, SecurityGroupSpec, gateway_of

DEADLINE = 5.0
"""Seconds after which what has not come will not come."""

A, B, C, SERVICE, OUTSIDE = "eni-a", "eni-b", "eni-c", "service", "outside"
MAC = {
    A: "00:16:3e:00:00:0a",
    B: "00:16:3e:00:00:0b",
    C: "00:16:3e:00:00:0c",
    SERVICE: "00:16:3e:00:00:5e",
    OUTSIDE: "00:16:3e:00:00:07",
}
ADDRESS = {
    (A, 4): "10.0.1.10",
    (A, 6): "2001:db8:10:1::a",
    (B, 4): "10.0.1.11",
    (B, 6): "2001:db8:10:1::b",
    (C, 4): "10.0.2.12",
    (C, 6): "2001:db8:10:2::c",
    (SERVICE, 4): "100.100.100.200",
    (OUTSIDE, 4): "203.0.113.10",
    (OUTSIDE, 6): "2001:db8:ffff::10",
}
UNASSIGNED = {4: "10.0.1.99", 6: "2001:db8:10:1::99"}
ANYWHERE = ("0.0.0.0/0", "::/0")
OPEN = SecurityGroupSpec("open", tuple(RuleSpec("ingress", peer=peer) for peer in ANYWHERE))
GATEWAY = GATEWAY_MAC
_SUBNETS = ("10.0.1.0/24", "10.0.2.0/24", "2001:db8:10:1::/64", "2001:db8:10:2::/64")
_VPC = ("10.0.0.0/16", "2001:db8:10::/56")

_SOL_PACKET, _PACKET_AUXDATA, _AUXDATA_SIZE = 263, 8, 20

T = TypeVar("T")
_numbers = itertools.count(20000)


def unused() -> int:
    """A port, identifier or fragment id that no test used before, so that no flow is known already."""
    return next(_numbers)


def network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


def address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def port(port_id: str, *, groups: Iterable[str] = ("open",)) -> Port:
    kind = {SERVICE: PortKind.SERVICE, OUTSIDE: PortKind.OUTSIDE}.get(port_id, PortKind.ENI)
    return Port(
        port_id=port_id,
        kind=kind,
        owner=port_id,
        mac=MAC[port_id],
        addresses=frozenset(address(text) for (name, _), text in ADDRESS.items() if name == port_id),
        groups=frozenset(groups) if kind is PortKind.ENI else frozenset(),
        device="eth0",
    )


def base_view() -> FabricView:
    return FabricView(
        ports=tuple(port(name) for name in (A, B, C, SERVICE, OUTSIDE)),
        subnets=tuple(Subnet(network(text), gateway_of(network(text))) for text in _SUBNETS),
        vpc=tuple(network(text) for text in _VPC),
        groups=(OPEN,),
    )


def grouped_view(*groups: SecurityGroupSpec, **members: Iterable[str]) -> FabricView:
    """The base view with more groups, and the ENIs ``a``, ``b``, ``c`` in those that are named."""
    base = base_view()
    given = {f"eni-{name}": names for name, names in members.items()}
    ports = tuple(port(p.port_id, groups=given.get(p.port_id, ("open",))) for p in base.ports)
    return replace(base, ports=ports, groups=(OPEN, *groups))


class Station:
    """A raw socket at the owner's end of a cable, whose other end is the device ``cable``."""

    def __init__(self, netns: int, cable: int) -> None:
        self.cable = cable
        with namespace.entered(netns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.bind(("eth0", 3))

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self) -> bytes:
        """The next frame that comes in, its tag included. Fails the test if none does."""
        end = time.monotonic() + DEADLINE
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0] and (frame := self._incoming()):
                return frame
        raise AssertionError("no frame came")

    def waiting(self) -> list[bytes]:
        """The frames that have come in by now."""
        found = []
        while select.select([self._socket], [], [], 0)[0]:
            if frame := self._incoming():
                found.append(frame)
        return found

    def _incoming(self) -> bytes | None:
        """None for what this end sent itself."""
        data, ancillary, _, origin = self._socket.recvmsg(65536, socket.CMSG_SPACE(_AUXDATA_SIZE))
        return with_tag(data, ancillary) if origin[2] != socket.PACKET_OUTGOING else None


@dataclass
class Net:
    """The VPC of a test session. ``reset`` gives each test the base view and empty sockets."""

    fabric: Fabric
    namespaces: dict[str, int]
    stations: dict[str, Station]

    def reset(self, view: FabricView | None = None) -> None:
        self.fabric.apply(view or base_view())
        cables = {name: ifindex for ifindex, name in links.present(self.fabric.netns).items()}
        for name, station in list(self.stations.items()):
            if cables.get(name) != station.cable:
                self.stations.pop(name).close()
        for name in cables.keys() - self.stations.keys():
            self.open(name)
        for station in self.stations.values():
            station.waiting()

    def open(self, name: str) -> None:
        """Bring a plugged device up and listen at it."""
        self.fabric.bring_up(name)
        self.stations[name] = Station(self.namespaces[name], self.fabric_ifindex(name))

    def close(self) -> None:
        for station in self.stations.values():
            station.close()

    def set_mtu(self, name: str, mtu: int) -> None:
        """The MTU of an owner's device, which is the owner's affair."""
        with namespace.entered(self.namespaces[name]), IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname="eth0")[0], mtu=mtu)

    def fabric_ifindex(self, name: str) -> int:
        """The device of a port on the fabric's side."""
        found = {port_id: ifindex for ifindex, port_id in links.present(self.fabric.netns).items()}
        return found[name]

    def owner_ifindex(self, name: str) -> int:
        """The device of a port in its owner's namespace."""
        with namespace.entered(self.namespaces[name]):
            return socket.if_nametoindex("eth0")

    def fabric_name(self, name: str) -> str:
        with namespace.entered(self.fabric.netns):
            return socket.if_indextoname(self.fabric_ifindex(name))

    def deliver(self, source: str, destination: str, frame: bytes) -> bytes:
        """Send a frame that has to arrive, and what arrived."""
        self.stations[source].send(frame)
        return self.stations[destination].receive()

    def expect(self, source: str, frame: bytes, reason: str) -> None:
        """Send a frame that comes to ``reason``: one count moves, by one, and nothing arrives anywhere."""
        before = self.fabric.counters(source)
        self.stations[source].send(frame)
        after = wait_for(lambda: changed(before, self.fabric.counters(source)), f"{reason} to be counted")
        assert after == {reason: 1}
        for name, station in self.stations.items():
            assert station.waiting() == [], f"a frame came to {name}"


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def wait_for(probe: Callable[[], T], what: str) -> T:
    """The first true answer of ``probe``. Fails the test at the deadline."""
    end = time.monotonic() + DEADLINE
    while True:
        if answer := probe():
            return answer
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.002)


def quiet_namespace() -> int:
    """A namespace whose kernel says nothing by itself."""
    netns = namespace.new()
    with namespace.entered(netns):
        for scope in ("default", "all"):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
    return netns


def build(stack: ExitStack, view: FabricView | None = None) -> Net:
    """The VPC, plugged in and up, the base one unless told otherwise; ``stack`` takes it down."""
    namespaces: dict[str, int] = {}
    for name in MAC:
        namespaces[name] = quiet_namespace()
        stack.callback(os.close, namespaces[name])
    fabric = stack.enter_context(Fabric(lambda owner: namespaces[owner]))
    net = Net(fabric, namespaces, {})
    stack.callback(net.close)
    net.reset(view)
    return net
