"""TCP between pods: loopback, the fast path, routing. ``python -m perf.datapath``. Needs root and gcc.

Both ends share one CPU, as a wake-up of another would cost more than the path; the paths take turns within
each round, and a ratio is of one round, so that a busy moment of the machine hits both its parts. Printed is
the median with a 95 % interval from resampling the rounds. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from datapath import namespace
from datapath.endpoint import Endpoint, EniLink, host_link_name
from datapath.fastpath.path import FastPath
from datapath.fastpath.rows import Eni, Pod
from datapath.modes.policy_route import PolicyRoute
from datapath.netlink import address, link, neighbour, route
from datapath.netlink.address import Assigned
from datapath.netlink.link import End
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Route
from datapath.netlink.socket import Socket
from datapath.netlink.wire import host_network
from perf.machine import commit, cpu

HOST, AWAY = IPv4Address("10.0.1.10"), IPv4Address("203.0.113.10")
ENI_MAC, GATEWAY_MAC = "00:16:3e:00:00:11", "ee:ff:ff:ff:ff:ff"
ENI = EniLink(ENI_MAC, IPv4Address("10.0.1.253"))
PORT = 5201
WORKLOADS = ("rr", "crr", "stream")
RESAMPLES = 2000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Way:
    """A path that is measured: who calls whom by which address."""

    name: str
    client: int
    server: int
    address: str


@dataclass(frozen=True, slots=True)
class Node:
    """Two pods of one ENI, and a host right behind it."""

    pods: tuple[int, int]
    addresses: tuple[IPv4Address, IPv4Address]
    away: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="perf datapath", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    parser.add_argument("--cpu", type=int, default=0)
    options = parser.parse_args(argv)
    os.sched_setaffinity(0, {options.cpu})
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tool = _compiled(scratch)
        fast = stack.enter_context(_node(scratch / "bpf"))
        routed = stack.enter_context(_node(None))
        ways = [_veth(stack), *_ways(fast, routed)]
        for way in ways:
            stack.enter_context(_server(tool, way))
        rates = _measure(tool, ways, rounds=options.rounds, seconds=options.seconds)
    _show(ways, rates)
    return 0


def _veth(stack: ExitStack) -> Way:
    """Two namespaces and a cable: the least that any pair of veths costs."""
    ends = [_namespace(stack), _namespace(stack)]
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


def _ways(fast: Node, routed: Node) -> Iterator[Way]:
    yield Way("loopback", fast.pods[1], fast.pods[1], "127.0.0.1")
    yield Way("same node, fast", fast.pods[0], fast.pods[1], str(fast.addresses[1]))
    yield Way("same node, routed", routed.pods[0], routed.pods[1], str(routed.addresses[1]))
    yield Way("off node, fast", fast.pods[0], fast.away, str(AWAY))
    yield Way("off node, routed", routed.pods[0], routed.away, str(AWAY))


Rates = dict[tuple[str, str], list[float]]


def _measure(tool: Path, ways: Sequence[Way], *, rounds: int, seconds: float) -> Rates:
    """By workload and way: per round, so many per second."""
    rates: Rates = {}
    for _ in range(rounds):
        for workload in WORKLOADS:
            for way in ways:
                rates.setdefault((workload, way.name), []).append(_run(tool, workload, way, seconds))
    return rates


def _run(tool: Path, workload: str, way: Way, seconds: float) -> float:
    with namespace.entered(way.client):
        command = [str(tool), workload, way.address, str(PORT), str(seconds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, elapsed = done.stdout.split()
    return int(count) / float(elapsed)


def _show(ways: Sequence[Way], rates: Rates) -> None:
    where = f"kernel {platform.release()}, {cpu()}, commit {commit()}"
    against = f"{'against loopback':28}{'against routed':28}"
    print(f"{where}\n{'what':8}{'path':20}{'median':>14}  {against}")
    for workload in WORKLOADS:
        for way in ways:
            mine = rates[workload, way.name]
            routed = rates[
                workload, way.name.replace("fast", "routed").replace("loopback", "same node, routed")
            ]
            text = _figure(workload, statistics.median(mine))
            columns = (_ratio(workload, mine, rates[workload, "loopback"]), _ratio(workload, mine, routed))
            print(f"{workload:8}{way.name:20}{text:>14}  {columns[0]:28}{columns[1]:28}")


def _figure(workload: str, rate: float) -> str:
    return f"{rate * 8 / 1e9:.2f} Gb/s" if workload == "stream" else f"{1e6 / rate:.2f} us"


def _ratio(workload: str, mine: Sequence[float], base: Sequence[float]) -> str:
    """Of times for round trips, of rates for streams; with the interval of the median."""
    pairs = list(zip(mine, base, strict=True))
    ratios = [a / b if workload == "stream" else b / a for a, b in pairs]
    generator = random.Random(1)
    medians = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def _compiled(scratch: Path) -> Path:
    tool = scratch / "pingpong"
    source = Path(__file__).with_name("pingpong.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(tool), str(source)], check=True)
    return tool


@contextmanager
def _server(tool: Path, way: Way) -> Iterator[None]:
    """One per namespace is enough: a second one cannot bind, and need not."""
    with namespace.entered(way.server):
        command = [str(tool), "serve", str(PORT)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _node(bpffs: Path | None) -> Iterator[Node]:
    """With the fast path on, pinned in a bpf file system mounted at ``bpffs``; None: by routing alone."""
    with ExitStack() as stack:
        node, away, *pods = (_namespace(stack) for _ in range(4))
        _cable(node, away)
        mode = PolicyRoute(node)
        stack.callback(mode.close)
        mode.prepare_node((HOST,))
        eni = mode.prepare_eni(ENI, (HOST,))
        endpoints = [_endpoint(number) for number in (1, 2)]
        applied = [mode.setup(one, netns) for one, netns in zip(endpoints, pods, strict=True)]
        addresses = (HOST + 1, HOST + 2)
        if bpffs is not None:
            fast = stack.enter_context(_fast_path(bpffs, node))
            fast.put_eni(Eni(eni, ENI_MAC, GATEWAY_MAC))
            fast.attach_eni(eni)
            for done, one in zip(applied, endpoints, strict=True):
                macs = done.pod_mac, done.host_mac
                fast.put_endpoint(Pod(done.host_ifindex, eni, *macs, addresses=one.addresses()))
                fast.attach_pod(done.host_ifindex)
            fast.set_stack_prefixes(node=(HOST,))
            fast.switch(True)
        yield Node((pods[0], pods[1]), addresses, away)


def _namespace(stack: ExitStack) -> int:
    made = namespace.new()
    stack.callback(os.close, made)
    with Socket(made) as netlink:
        netlink.one(link.change(1, up=True))
    return made


def _endpoint(number: int) -> Endpoint:
    name = host_link_name("perf", f"pod-{number}", "eth0")
    return Endpoint(name, "eth0", f"{number:064x}", ENI, HOST + number)


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
def _fast_path(bpffs: Path, node: int) -> Iterator[FastPath]:
    bpffs.mkdir()
    if _libc.mount(b"bpf", str(bpffs).encode(), b"bpf", 0, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(bpffs))
    try:
        with FastPath.open(bpffs / "terway", netns=node) as fast:
            yield fast
    finally:
        _libc.umount2(str(bpffs).encode(), 2)


if __name__ == "__main__":
    sys.exit(main())
