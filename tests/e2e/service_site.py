"""Two nodes with services between them, and who may call whom by which address.

    a, x   pods of node A      b  a pod of node B      A, B  the nodes themselves      outside

Node A has the node ports and the host port; node B sends its pods' packets outside with its own address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from datapath.netlink.wire import Network
from lab.client import Lab
from lab.nodes import agent
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6
from tests.e2e import benches, services_iptables, services_nft
from tests.e2e.conftest import Bench
from tests.e2e.services import Address, HostPort, NodeRules, Service
from tests.e2e.test_fastpath import asked

VIPS: dict[int, dict[str, Address]] = {
    4: {name: ip_address(f"172.21.0.{n}") for n, name in enumerate(("here", "there", "itself", "local"), 10)},
    6: {name: ip_address(f"fd00:21::{n}") for n, name in enumerate(("here", "there", "itself", "local"), 10)},
}
SERVICE_CIDR = "172.21.0.0/20,fd00:21::/112"
NODE_PORTS = {"here": 30080, "there": 30081, "local": 30082}
HOST_PORT = 8088
OUTSIDE: dict[int, Address] = {4: OUTSIDE_ADDRESS, 6: OUTSIDE_ADDRESS_V6}
BEYOND: dict[int, Network] = {
    v: ip_network(f"{address}/{24 if v == 4 else 64}", strict=False) for v, address in OUTSIDE.items()
}
WRITERS = ("nft", "iptables-nft", "iptables-legacy")


@dataclass
class Site:
    """``a``, ``x`` and ``b`` as above."""

    nodes: tuple[Bench, Bench]
    a: LabPod
    x: LabPod
    b: LabPod
    fds: dict[str, int]
    """Network namespaces by name."""

    def address(self, who: str, version: int) -> Address:
        if who == "outside":
            return OUTSIDE[version]
        if who in ("A", "B"):
            bench = self.nodes["AB".index(who)]
            told = asked(bench.node, "/mode")["node"]["addresses"]
            return next(one for one in map(ip_address, told) if one.version == version)
        pod: LabPod = getattr(self, who)
        return next(one for one in pod.addresses if one.version == version)

    def rules(self, bench: Bench, version: int) -> NodeRules:
        first = bench is self.nodes[0]
        backends = {"here": "x", "there": "b", "itself": "a", "local": "x"}
        made = [
            Service(
                name,
                VIPS[version][name],
                self.address(pod, version),
                NODE_PORTS.get(name, 0) if first else 0,
                local=name == "local",
            )
            for name, pod in backends.items()
        ]
        ports = [HostPort(HOST_PORT, self.address("x", version))] if first else []
        pods = self.nodes[0].lab.spec.vswitches[1]
        cidr = pods.cidr if version == 4 else pods.cidr_v6
        assert cidr is not None
        return NodeRules(version, cidr, made, ports, None if first else BEYOND[version])

    @contextmanager
    def written(self, writer: str) -> Iterator[None]:
        """The rules are there, and agents that have started after them."""
        try:
            for bench in self.nodes:
                for version in (4, 6):
                    _write(bench, writer, self.rules(bench, version))
                bench.node.stop_agent()
                bench.start()
            yield
        finally:
            for bench in self.nodes:
                _erase(bench, writer)

    def drops(self) -> dict[str, int]:
        return {name: n for bench in self.nodes for name, n in bench.drops().items()}


def _write(bench: Bench, writer: str, rules: NodeRules) -> None:
    if writer == "nft":
        _run(bench, ["nft", "-f", "-"], services_nft.written(rules))
        return
    program, kind = writer.split("-")
    program = program if rules.version == 4 else f"ip6{program.removeprefix('ip')}"
    _run(bench, [f"{program}-{kind}-restore"], services_iptables.written(rules))


def _run(bench: Bench, words: Sequence[str], text: str = "") -> str:
    done = bench.node.exec(words, stdin=text)
    assert not done.returncode, f"{' '.join(words)}: {done.stderr}{text}"
    return done.stdout


def _erase(bench: Bench, writer: str) -> None:
    _run(bench, ["nft", "flush", "ruleset"])
    if writer == "iptables-legacy":
        empty = "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n"
        for program in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
            _run(bench, [program], empty)


@contextmanager
def site(lab: Lab) -> Iterator[Site]:
    with ExitStack() as stack:
        nodes = tuple(stack.enter_context(benches.bench(lab)) for _ in range(2))
        one, other = nodes
        for bench, beyond in ((one, ()), (other, tuple(map(str, BEYOND.values())))):
            changes = {"ip_stack": "dual", "service_cidr": SERVICE_CIDR, "max_pool_size": 0, **benches.QUIET}
            bench.configure(agent.cni_conf(host_stack_cidrs=list(beyond)), **changes)
            bench.start()
        a, x, b = one.pod("a"), one.pod("x"), other.pod("b")
        fds = {"a": a.netns_fd(), "x": x.netns_fd(), "b": b.netns_fd(), "outside": lab.netns_fd("outside")}
        fds |= {"A": one.node.netns_fd(), "B": other.node.netns_fd()}
        for fd in fds.values():
            stack.callback(os.close, fd)
        yield Site((one, other), a, x, b, fds)
