"""Packets to addresses that no pod has end at the node, and their sender is told. By routing alone."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from datapath import namespace
from datapath.endpoint import Endpoint
from datapath.enforcement.guard.ruleset import Reason
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.frames import ETH_IPV6, ethernet, heard, raw, udp
from tests.netns.datapath.test_node import eni_rules
from tests.netns.datapath.traffic import PATIENCE
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    ETH0,
    HOST,
    HOST_V6,
    OUTSIDE,
    OUTSIDE_V6,
    Address,
    World,
    eni_link,
    shared,
    veth,
)

IDLE: dict[int, Address] = {4: IPv4Address("10.0.1.77"), 6: IPv6Address("2001:db8:10:b:1::77")}
"""Behind ENI2: the router sends it there, and no pod has it."""
UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH)
RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def refusal(netns: int, target: Address, source: Address | None = None) -> int:
    """The errno by which a datagram's sender is told of its fate; 0 if nobody tells in time."""
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    with namespace.entered(netns):
        caller = socket.socket(family, socket.SOCK_DGRAM)
    with caller:
        caller.settimeout(PATIENCE)
        # Else a datagram's sender hears only of ports that nobody listens at.
        caller.setsockopt(*RECVERR[target.version], 1)
        if source is not None:
            caller.bind((str(source), 0))
        try:
            caller.connect((str(target), 9))
            caller.send(b"anybody?")
            caller.recv(64)
        except TimeoutError:
            return 0
        except OSError as exc:
            return int(exc.errno or 0)
    raise AssertionError(f"{target} has answered")


@contextlib.contextmanager
def passes(world: World, target: Address) -> Iterator[list[int]]:
    """How many packets to ``target`` the node gave to the router, at the block's end the list's one item."""
    grown: list[int] = []
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(raw(world.router, card.port)) for card in (ETH0, ENI1, ENI2)]
        yield grown
        grown.append(sum(_taken(port, target) for port in ports))


def _taken(port: socket.socket, target: Address) -> int:
    """Packets to ``target`` that have come in by the port."""
    port.setblocking(False)
    where = 30 if target.version == 4 else 38
    found = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, origin = port.recvfrom(2048)
            found += origin[2] != socket.PACKET_OUTGOING and frame[where:].startswith(target.packed)
    return found


def address(endpoint: Endpoint, version: int) -> Address:
    found = endpoint.ipv4 if version == 4 else endpoint.ipv6
    assert found is not None
    return found


@VERSIONS
def test_from_outside(world: World, mode: NodeDatapath, version: int) -> None:
    source: Address = OUTSIDE if version == 4 else OUTSIDE_V6
    with passes(world, IDLE[version]) as grown:
        assert refusal(world.router, IDLE[version], source) in UNREACHABLE
    assert grown == [0]
    assert {one.reason: one.packets for one in mode.guard.drops()}[Reason.NO_POD] == 1


@VERSIONS
def test_from_a_pod_of_the_same_node(world: World, mode: NodeDatapath, version: int) -> None:
    """It goes out once, comes back by the other ENI and ends there: one pass, where there were dozens."""
    pod = world.namespace()
    mode.setup(world.endpoint(ENI1), pod)
    with passes(world, IDLE[version]) as grown:
        assert refusal(pod, IDLE[version]) in UNREACHABLE
    assert grown == [1]


@VERSIONS
def test_from_the_node_itself(world: World, mode: NodeDatapath, version: int) -> None:
    """The node's own source comes back by an ENI, which is martian to IPv4 unless it is let in."""
    del mode
    assert refusal(world.node, IDLE[version], HOST if version == 4 else HOST_V6) in UNREACHABLE


@VERSIONS
def test_just_released(world: World, mode: NodeDatapath, version: int) -> None:
    pod, endpoint = world.namespace(), world.endpoint(ENI2)
    source: Address = OUTSIDE if version == 4 else OUTSIDE_V6
    mode.setup(endpoint, pod)
    assert refusal(world.router, address(endpoint, version), source) == errno.ECONNREFUSED
    mode.teardown(endpoint, None)
    assert refusal(world.router, address(endpoint, version), source) in UNREACHABLE


@pytest.mark.parametrize("target", ["169.254.1.2", "169.254.169.254", "240.0.0.1", "0.1.2.3"])
def test_hostile_pod_sends_beyond_the_link(world: World, mode: NodeDatapath, target: str) -> None:
    pod = world.namespace()
    mode.setup(world.endpoint(ENI1), pod)
    assert refusal(pod, OUTSIDE) == errno.ECONNREFUSED, "the way out works, and the gateway is known"
    with passes(world, IPv4Address(target)) as grown:
        assert refusal(pod, IPv4Address(target)) in UNREACHABLE
    assert grown == [0]


@pytest.mark.parametrize("target", ["::ffff:203.0.113.10", "::203.0.113.10"])
def test_hostile_pod_sends_to_what_means_ipv4(world: World, mode: NodeDatapath, target: str) -> None:
    """A socket would send it as IPv4, so the packet is written by hand."""
    pod, endpoint = world.namespace(), world.endpoint(ENI1)
    made = veth(mode.setup(endpoint, pod))
    assert refusal(pod, OUTSIDE_V6) == errno.ECONNREFUSED, "the way out works, and the gateway is known"
    assert endpoint.ipv6 is not None
    packet = udp(endpoint.ipv6, IPv6Address(target), 9)
    with passes(world, IPv6Address(target)) as grown, raw(pod) as sender:
        sender.send(ethernet(made.host_mac, made.pod_mac, ETH_IPV6, packet))
        assert heard(sender, lambda frame: frame[54:56] == b"\1\0"), "no ICMPv6 error: no route"
    assert grown == [0]


def test_an_eni_of_somebody_else_is_left_alone(world: World, mode: NodeDatapath) -> None:
    """No rule is about eth0, nor about an ENI that was forgotten: its name may be another's next."""
    mode.forget_uplink(ENI2.mac)
    assert not eni_rules(world, "eni2")
    assert not eni_rules(world, "eth0")
    mode.prepare_uplink(shared(eni_link(ENI2)))
    assert eni_rules(world, "eni2") == {2, 10}
