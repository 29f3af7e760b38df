"""What the fast path costs a pod: its rows and its programs, put there and taken away. ``./run perf attach``.

Verbs of FastPath by themselves, on veths that are there already, with 0 and with 110 other pods. Milliseconds
by the clock, Python's part included; nothing is asserted.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from datapath.acceleration.path import FastPath
from datapath.acceleration.rows import Pod, UplinkName, UplinkRow
from datapath.netlink import link
from datapath.netlink.link import End
from datapath.netlink.socket import Socket
from perf.kernel_add import Row, timed
from perf.machine import commit, cpu
from perf.paths import ENI_MAC, GATEWAY_MAC, fast_path, new_namespace

POPULATION = (0, 110)
FIRST, FIRST_V6 = IPv4Address("10.0.1.0"), IPv6Address("2001:db8::1:0")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run perf attach", description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--dual", action="store_true", help="with IPv6")
    options = parser.parse_args(argv)
    with _bench(dual=options.dual) as (fast, pods):
        rows = [row for present in POPULATION for row in _measure(fast, pods, present, options.samples)]
    _show(rows, dual=options.dual)
    return 0


def _measure(fast: FastPath, pods: Sequence[Pod], present: int, samples: int) -> Iterator[Row]:
    """One more pod comes and goes, again and again."""
    others, one = pods[:present], pods[-1]
    for pod in others:
        fast.put_endpoint(pod)
        fast.attach_pod(pod.host_ifindex)
    steps = {
        "put_endpoint": partial(fast.put_endpoint, one),
        "attach_pod": partial(fast.attach_pod, one.host_ifindex),
        "drop_endpoint": partial(fast.drop_endpoint, one.host_ifindex),
        "detach_pod": partial(fast.detach_pod, one.host_ifindex),
    }
    times = [[timed(step) for step in steps.values()] for _ in range(samples)]
    for number, name in enumerate(steps):
        yield Row(name, present, tuple(sorted(each[number] for each in times)))
    yield Row("all of an ADD", present, tuple(sorted(each[0] + each[1] for each in times)))
    for pod in others:
        fast.detach_pod(pod.host_ifindex)
        fast.drop_endpoint(pod.host_ifindex)


@contextmanager
def _bench(*, dual: bool) -> Iterator[tuple[FastPath, Sequence[Pod]]]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node, beyond = new_namespace(stack), new_namespace(stack)
        with Socket(node) as netlink:
            eni = _veth(netlink, beyond, End("eni1", ENI_MAC), End("port", GATEWAY_MAC))
            pods = [_pod(netlink, beyond, number, dual=dual) for number in range(max(POPULATION) + 1)]
        fast = stack.enter_context(fast_path(scratch / "bpf", node))
        fast.put_uplink(UplinkRow(eni, ENI_MAC, GATEWAY_MAC))
        fast.attach_eni(eni)
        fast.set_stack_prefixes(node=())
        yield fast, pods


def _pod(netlink: Socket, beyond: int, number: int, *, dual: bool) -> Pod:
    host, pod = (End(f"{side}{number}", f"02:00:00:00:{side[0]}0:{number:02x}") for side in ("a", "b"))
    addresses = (FIRST + number, FIRST_V6 + number) if dual else (FIRST + number,)
    return Pod(_veth(netlink, beyond, host, pod), UplinkName(ENI_MAC), pod.mac, host.mac, addresses)


def _veth(netlink: Socket, beyond: int, end: End, other: End) -> int:
    netlink.one(link.create_veth(end, other, netns=beyond, mtu=1500))
    found = link.find(netlink, end.name)
    assert found is not None
    netlink.one(link.change(found.index, up=True))
    return found.index


def _show(rows: Sequence[Row], *, dual: bool) -> None:
    print(f"kernel {platform.release()}, {cpu()}, commit {commit()}, {'IPv4+IPv6' if dual else 'IPv4'}")
    print(f"{'what':16}{'present':>8}{'n':>6}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}")
    for row in rows:
        figures = "".join(f"{row.quantile(share):9.3f}" for share in (0.5, 0.95, 1.0))
        print(f"{row.name:16}{row.present:8}{len(row.times):6}{figures}")


if __name__ == "__main__":
    raise SystemExit(main())
