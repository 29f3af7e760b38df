"""Two places with a router of the kernel's between them, as small as the probes of the demonstration need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from datapath import namespace
from lab.demo.matrix import Place, Where

MTU = 1500


@dataclass(frozen=True, slots=True)
class World:
    source: Place
    router: int
    target: Place


def shell(netns: int, text: str) -> str:
    """Run a script in the namespace; its output. A command that fails fails the test."""
    with namespace.entered(netns):
        done = subprocess.run(["sh", "-ec", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    return done.stdout


def _wire(place: int, router: int, number: int, mac: str) -> None:
    net = f"10.77.{number}", f"2001:db8:77:{number}:"
    there = f"/proc/{os.getpid()}/fd/{place}"
    shell(router, f"ip link add to{number} type veth peer name eth0 address {mac} netns {there}")
    shell(
        router,
        f"ip addr add {net[0]}.254/24 dev to{number}; ip addr add {net[1]}:fe/64 dev to{number} nodad;"
        f"ip link set to{number} up",
    )
    shell(
        place,
        f"ip link set lo up; ip link set eth0 up; ip addr add {net[0]}.1/24 dev eth0;"
        f"ip addr add {net[1]}:1/64 dev eth0 nodad; ip route add default via {net[0]}.254;"
        f"ip -6 route add default via {net[1]}:fe",
    )


@pytest.fixture
def world() -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    with ExitStack() as undo:
        spaces = [namespace.new() for _ in range(3)]
        for fd in spaces:
            undo.callback(os.close, fd)
            shell(fd, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
        source, router, target = spaces
        shell(router, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        _wire(source, router, 1, "02:00:00:00:00:01")
        _wire(target, router, 2, "02:00:00:00:00:02")
        made = World(_place("a", 1, source, Where.POD), router, _place("b", 2, target, Where.OUTSIDE))
        for address in made.target.addresses:
            shell(source, f"ping -q -i 0.1 -c 1 -w 5 {address}")
        yield made


def _place(name: str, number: int, netns: int, where: Where) -> Place:
    addresses = (ip_address(f"10.77.{number}.1"), ip_address(f"2001:db8:77:{number}::1"))
    return Place(name, where, "node1" if where is Where.POD else "", netns, addresses)
