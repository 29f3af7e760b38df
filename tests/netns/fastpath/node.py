"""A routed node (tests.netns.datapath.world) that the fast path is laid over, and a host beyond the router.

pods ── node ── eni1, eni2 ── router ── far 10.0.2.10, 2001:db8:10:c::10
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import NFCTSocket

from datapath import namespace, sysctl
from datapath.acceleration.load import Options
from datapath.acceleration.path import FastPath
from datapath.acceleration.rows import Pod, UplinkName, UplinkRow
from datapath.endpoint import AppliedVeth, Endpoint
from datapath.node_datapath import NodeDatapath
from tests.bpf.bpffs import mounted
from tests.linux import ASKS_CONNTRACK
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    HOST,
    HOST_V6,
    NODAD,
    Address,
    Card,
    World,
    eni_link,
    shared,
    veth,
    witness,
)
from tests.netns.fastpath.builds import Find
from tests.pace import patience

FAR = IPv4Address("10.0.2.10")
TRACKED = """
table inet tracked {
    chain forward {
        type filter hook forward priority 1
        ct state invalid counter drop
    }
}
"""
"""As kube-proxy has it, so that conntrack is at work and half a flow would show."""
FAR_V6 = IPv6Address("2001:db8:10:c::10")
PATIENCE = patience(5.0)

asks_conntrack = pytest.mark.skipif(
    not ASKS_CONNTRACK, reason="no program can ask conntrack before Linux 5.19"
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod: its namespace, its endpoint, its links."""

    netns: int
    endpoint: Endpoint
    applied: AppliedVeth

    def address(self, version: int) -> Address:
        found = self.endpoint.ipv4 if version == 4 else self.endpoint.ipv6
        assert found is not None
        return found


class FastNode:
    """Made by ``fast_node``. ``fast`` may be replaced by a test that opens it anew."""

    def __init__(self, world: World, mode: NodeDatapath, pins: Path, conntrack: bool) -> None:
        self.conntrack = conntrack
        self.world, self.mode, self.pins = world, mode, pins / "terway"
        self.far = world.namespace()
        self.enis: dict[str, int] = {}
        self.gateways_known = True
        _build_far(world, self.far)

    fast: FastPath

    def open(self, *, options: Options = Options(), **more: Any) -> FastPath:  # noqa: B008 - a frozen value
        options = replace(options, conntrack=self.conntrack)
        self.fast = FastPath.open(self.pins, netns=self.world.node, options=options, **more)
        assert bool(self.fast.unasked) is not self.conntrack, self.fast.unasked
        return self.fast

    def reopen(self, find: Find | None = None) -> FastPath:
        """By another build or layout, or the same."""
        self.close()
        return self.open(options=Options() if find is None else Options(find=find))

    def close(self) -> None:
        self.fast.close()

    def prepare(self) -> None:
        with namespace.entered(self.world.node):
            subprocess.run(["nft", "-f", "-"], input=TRACKED, text=True, check=True)
        self.mode.prepare((HOST, HOST_V6))
        for card in (ENI1, ENI2):
            self.enis[card.name] = self.mode.prepare_uplink(shared(eni_link(card)))
            self.put_eni(card)
            self.fast.attach_eni(self.enis[card.name])
        self.fast.set_stack_prefixes(node=(HOST, HOST_V6))
        self.fast.switch(True)

    def clear(self) -> None:
        """Take away what tests have written as kube-proxy, and what conntrack knows; ENIs are as they were.

        Pods stay: each is another one, at other addresses.
        """
        with namespace.entered(self.world.node):
            text = "add table inet kube-proxy; delete table inet kube-proxy"
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
            with NFCTSocket() as conntrack:
                conntrack.flush()
        with witness(self.world.node) as reader:
            for card in (ENI1, ENI2):
                reader.link("set", index=self.enis[card.name], mtu=1500)
                self.put_eni(card)
        self.fast.set_stack_prefixes(node=(HOST, HOST_V6))
        self.fast.switch(True)

    def put_eni(self, card: Card, *, mtu: int = 1500, known: bool = True) -> None:
        gateway = f"ee:ff:ff:ff:ff:f{card.port[-1]}" if known else None
        self.fast.put_uplink(UplinkRow(self.enis[card.name], card.mac, gateway, gateway, mtu))

    def pod(self, card: Card = ENI1, **changes: Any) -> Tenant:
        """A new pod, set up by routing and then known to the fast path."""
        return self.adopt(self.world.namespace(), self.world.endpoint(card, **changes))

    def adopt(self, netns: int, endpoint: Endpoint) -> Tenant:
        tenant = Tenant(netns, endpoint, veth(self.mode.setup(endpoint, netns)))
        self.put(tenant)
        self.fast.attach_pod(tenant.applied.host_ifindex)
        with namespace.entered(netns), witness(netns) as inside:
            inside.link("set", index=1, state="up")
        return tenant

    def put(self, tenant: Tenant, *, fast: bool = True) -> None:
        done = tenant.applied
        self.fast.put_endpoint(
            Pod(
                done.host_ifindex,
                UplinkName(tenant.endpoint.eni.mac.lower()),
                done.pod_mac,
                done.host_mac,
                tenant.endpoint.addresses(),
                mtu=tenant.endpoint.mtu,
                fast=fast,
            )
        )

    def forwarded(self) -> int:
        """Packets that the node's stack has forwarded, of both families."""
        with namespace.entered(self.world.node):
            names, values = (line.split() for line in _read("snmp").splitlines() if line.startswith("Ip:"))
            total = int(values[names.index("ForwDatagrams")])
            for line in _read("snmp6").splitlines():
                if line.startswith("Ip6OutForwDatagrams"):
                    total += int(line.split()[1])
        return total

    def count(self, reason: str) -> int:
        """At all hooks."""
        return sum(counts.get(reason, 0) for counts in self.fast.counters().values())

    @contextmanager
    def counting_by(self, fast: FastPath, *reasons: str) -> Iterator[dict[str, int]]:
        """``counting`` while another process's fast path is open."""
        before, self.fast = self.fast, fast
        try:
            with self.counting(*reasons) as grown:
                yield grown
        finally:
            self.fast = before

    @contextmanager
    def counting(self, *reasons: str) -> Iterator[dict[str, int]]:
        """Filled at the end of the block: by how much each reason, and ``forwarded``, has grown."""
        grown: dict[str, int] = {}
        before = {reason: self.count(reason) for reason in reasons}
        forwarded = self.forwarded()
        yield grown
        grown["forwarded"] = self.forwarded() - forwarded
        for reason in reasons:
            grown[reason] = self.count(reason) - before[reason]


@contextmanager
def fast_node(scratch: Path, *, conntrack: bool = True) -> Iterator[FastNode]:
    with ExitStack() as stack:
        pins = stack.enter_context(mounted(scratch))
        world = World()
        stack.callback(world.close)
        mode = NodeDatapath(world.node)
        stack.callback(mode.close)
        node = FastNode(world, mode, pins, conntrack)
        node.open()
        stack.callback(node.close)
        node.prepare()
        yield node


def until(truth: Callable[[], bool], what: str) -> None:
    """Wait for it to become true. Raises AssertionError if it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not truth():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def _read(name: str) -> str:
    return Path(f"/proc/thread-self/net/{name}").read_text()


def _build_far(world: World, far: int) -> None:
    for netns in (world.router, far):
        with namespace.entered(netns):
            sysctl.write("net/ipv6/conf/default/accept_dad", "0")
    with witness(world.router) as router, witness(far) as reader:
        router.link("add", ifname="port9", kind="veth", peer={"ifname": "eth0", "net_ns_fd": far})
        port, eth0 = router.link_lookup(ifname="port9")[0], reader.link_lookup(ifname="eth0")[0]
        router.addr("add", index=port, address="10.0.2.253", prefixlen=24)
        router.addr("add", index=port, address="2001:db8:10:c::fffd", prefixlen=64, flags=NODAD)
        reader.addr("add", index=eth0, address=str(FAR), prefixlen=24)
        reader.addr("add", index=eth0, address=str(FAR_V6), prefixlen=64, flags=NODAD)
        for one, index in ((router, port), (reader, eth0), (reader, 1)):
            one.link("set", index=index, state="up")
        reader.route("add", dst="0.0.0.0/0", gateway="10.0.2.253", oif=eth0)
        reader.route("add", dst="::/0", gateway="2001:db8:10:c::fffd", oif=eth0)
