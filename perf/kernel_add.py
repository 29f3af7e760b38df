"""The kernel's part of ADD and DEL: ``python -m perf.kernel_add [--dual] [--samples N]``.

Sets up and tears down endpoints of NodeDatapath in namespaces of their own, in order with 0 and with 110
others present, and as a burst. One row per figure; times are of wall clock and include all of Python's part.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from datapath import namespace
from datapath.endpoint import Endpoint, EniLink, Mode, SharedEni
from datapath.netlink import link
from datapath.netlink.link import End
from datapath.netlink.socket import Socket
from datapath.node_datapath import NodeDatapath
from datapath.pod.names import host_link_name
from perf.machine import commit, cpu

MAC = "00:16:3e:00:00:11"
HOST, HOST_V6 = IPv4Address("10.0.0.10"), IPv6Address("2001:db8::10")
ENI = EniLink(MAC, IPv4Address("10.0.255.253"), IPv6Address("2001:db8::fffd"))
UPLINK = SharedEni("eni-1", ENI)
POPULATION = (0, 110)
BURST = 110
IDLE = 0.05
"""Seconds without work before a cold sample: caches are cold then, as they are for most real ADDs."""


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds, sorted; ``rate`` per second, 0 where it has no meaning."""

    name: str
    present: int
    times: tuple[float, ...]
    rate: float = 0.0

    def quantile(self, share: float) -> float:
        return self.times[min(int(len(self.times) * share), len(self.times) - 1)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run perf kernel-add", description=__doc__)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--dual", action="store_true", help="with IPv6")
    options = parser.parse_args(argv)
    with bench(max(POPULATION) + BURST) as (mode, pods):
        rows: list[Row] = []
        for population in POPULATION:
            rows += sequential(mode, pods, population, options)
        rows += burst(mode, pods, dual=options.dual)
    show(rows, dual=options.dual)
    return 0


@contextmanager
def bench(pod_count: int) -> Iterator[tuple[NodeDatapath, list[int]]]:
    """A node with one ENI, and namespaces for as many pods as are ever there at once."""
    with ExitStack() as stack:
        node, beyond = namespace.new(), namespace.new()
        pods = [namespace.new() for _ in range(pod_count)]
        for netns in (node, beyond, *pods):
            stack.callback(os.close, netns)
        with Socket(node) as socket, Socket(beyond) as other:
            eni = link.create_veth(End("eni1", MAC), End("port", "ee:ff:ff:ff:ff:ff"), netns=beyond, mtu=1500)
            socket.transact(eni, link.change(1, up=True))
            port = link.find(other, "port")
            assert port is not None
            other.one(link.change(port.index, up=True))
        mode = NodeDatapath(node)
        stack.callback(mode.close)
        mode.prepare((HOST, HOST_V6))
        mode.prepare_uplink(UPLINK)
        yield mode, pods


def endpoint(number: int, *, dual: bool) -> Endpoint:
    return Endpoint(
        host_link=host_link_name("default", f"pod-{number}", "eth0"),
        ifname="eth0",
        container_id=f"{number:064x}",
        mode=Mode.POLICY_ROUTE,
        uplink=UPLINK,
        ipv4=IPv4Address("10.0.1.0") + number,
        ipv6=IPv6Address("2001:db8::1:0") + number if dual else None,
    )


def sequential(
    mode: NodeDatapath, pods: Sequence[int], population: int, options: argparse.Namespace
) -> Iterator[Row]:
    """ADD and DEL of one more pod, time after time, with ``population`` others there: busy, then cold.

    Each time it is another pod in another namespace, so that nothing waits for the links of the one before.
    """
    others = [(endpoint(n, dual=options.dual), pods[n]) for n in range(population)]
    for one, netns in others:
        mode.setup(one, netns)
    for name, pause, samples in (("", 0.0, options.samples), (", cold", IDLE, options.samples // 4)):
        adds, dels = [], []
        for n in range(samples):
            place = population + n % BURST
            if place == population:
                mode.flush()
            one, netns = endpoint(place, dual=options.dual), pods[place]
            time.sleep(pause)
            adds.append(timed(partial(mode.setup, one, netns)))
            time.sleep(pause)
            dels.append(timed(partial(mode.teardown, one, netns)))
        yield Row(f"setup{name}", population, tuple(sorted(adds)))
        yield Row(f"teardown{name}", population, tuple(sorted(dels)))
    for one, netns in others:
        mode.teardown(one, netns)
    mode.flush()


def burst(mode: NodeDatapath, pods: Sequence[int], *, dual: bool) -> Iterator[Row]:
    """Many in a row from one thread, and until the last link is deleted."""
    many = [(endpoint(n, dual=dual), pods[n]) for n in range(BURST)]
    start = time.perf_counter()
    adds = sorted(timed(partial(mode.setup, *one)) for one in many)
    added = time.perf_counter()
    dels = sorted(timed(partial(mode.teardown, *one)) for one in many)
    removed = time.perf_counter()
    mode.flush()
    flushed = time.perf_counter()
    yield Row("burst of setups", BURST, tuple(adds), BURST / (added - start))
    yield Row("burst of teardowns", BURST, tuple(dels), BURST / (removed - added))
    yield Row("  and links deleted", BURST, ((flushed - removed) * 1e3,), BURST / (flushed - added))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def show(rows: Sequence[Row], *, dual: bool) -> None:
    where = f"kernel {platform.release()}, {cpu()}, commit {commit()}, {'IPv4+IPv6' if dual else 'IPv4'}"
    print(f"{'what':22}{'present':>8}{'n':>6}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'per s':>8}  where")
    for row in rows:
        figures = "".join(f"{row.quantile(share):9.3f}" for share in (0.5, 0.95, 1.0))
        rate = f"{row.rate:8.0f}" if row.rate else " " * 8
        print(f"{row.name:22}{row.present:8}{len(row.times):6}{figures}{rate}  {where}")


if __name__ == "__main__":
    raise SystemExit(main())
