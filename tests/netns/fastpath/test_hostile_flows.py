"""What a pod can do to flows that are not its own, or that it had before: nothing.

Rules as kube-proxy writes them are there, with its drop of packets that conntrack finds invalid; both with a
kernel whose conntrack is asked and with records alone.
"""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path

import numpy as np
import pytest

from datapath import namespace, sysctl
from datapath.acceleration import flows as flows_module
from datapath.acceleration.load import Options
from datapath.ebpf.libbpf import Direction, Object, TcHook
from datapath.netlink.wire import Network
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, Address
from tests.netns.fastpath.calls import call, calls, flood, reached, serving, speaks
from tests.netns.fastpath.conversation import Place, converse
from tests.netns.fastpath.node import FastNode, Tenant, asks_conntrack, until
from tests.netns.fastpath.test_stack import FARS, PORT, SERVICE, TARGET, VIPS, dnat, install
from tests.pace import SLOWER

CALLS = int(14_000 / SLOWER)
DIRECT = 40
IDLE = 30
BEYOND = {
    4: [ip_address(f"198.51.100.{n}") for n in range(1, 11)],
    6: [ip_address(f"2001:db8:51::{n:x}") for n in range(1, 11)],
}
FLOWS = 10_000
"""To each of ten addresses."""
PAINT = """
table inet paint {
    chain forward {
        type filter hook forward priority 5
        meta mark set 0xffffbfff
    }
}
"""
VERSIONS = pytest.mark.parametrize("version", [4, 6])


@VERSIONS
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_hostile_direct_connections_after_thousands_of_calls(
    node: FastNode, version: int, where: str
) -> None:
    """The ports of the calls are used again, for the backend itself."""
    client = node.pod(ENI1)
    server = _backend(node, where, version)
    install(node, dnat(VIPS[version], PORT, server.address))
    with serving(server):
        ports = calls(client.netns, VIPS[version], PORT, CALLS)
        again = ports[:: max(1, len(ports) // DIRECT)][:DIRECT]
        assert reached(client.netns, server.address, TARGET, again) == len(again)
        assert reached(client.netns, VIPS[version], PORT, again) == len(again)


@VERSIONS
def test_hostile_direct_datagrams_after_calls(node: FastNode, version: int) -> None:
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    place = Place(server.netns, server.address(version), TARGET)
    for port in range(40_000, 40_040):
        assert _datagrams(client, VIPS[version], PORT, place, port)
    for port in range(40_000, 40_040):
        assert _datagrams(client, place.address, TARGET, place, port), port


@VERSIONS
def test_hostile_the_next_pod_with_the_address_inherits_nothing(node: FastNode, version: int) -> None:
    """The slot, the address and the ports are the old pod's; what it had the stack carry is not."""
    server = node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    place = Place(server.netns, server.address(version), TARGET)
    old = node.pod(ENI1)
    slot = _slot(node, old)
    with serving(place):
        ports = calls(old.netns, VIPS[version], PORT, 100)
        assert _noted(node, slot) >= 1
        new = _replaced(node, old)
        assert _slot(node, new) == slot
        assert new.address(version) == old.address(version)
        assert _noted(node, slot) == 0
        with node.counting("fast_local", "stack_flow", "stack_unrecorded") as grown:
            assert reached(new.netns, place.address, TARGET, ports[:DIRECT]) == DIRECT
        assert grown["fast_local"] >= DIRECT * 4
        assert grown["stack_flow"] == grown["stack_unrecorded"] == grown["forwarded"] == 0
        assert reached(new.netns, VIPS[version], PORT, ports[DIRECT : 2 * DIRECT]) == DIRECT
        assert reached(new.netns, place.address, TARGET, ports[DIRECT : 2 * DIRECT]) == DIRECT


@VERSIONS
def test_hostile_a_flood_of_flows_resets_nobodys_connection(node: FastNode, version: int) -> None:
    """A hundred thousand flows of one pod, each sent twice, and thirty idle connections of another."""
    attacker, client, server = node.pod(ENI1), node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    node.fast.set_stack_prefixes(service=SERVICE, host_cidrs=_networks(), node=(HOST, HOST_V6))
    with serving(Place(server.netns, server.address(version), TARGET)) as accepted, ExitStack() as stack:
        idle = [stack.enter_context(call(client.netns, VIPS[version], PORT)) for _ in range(IDLE)]
        until(lambda: len(accepted) == IDLE, "all are accepted")
        with node.counting("seen_refused") as grown:
            flood(attacker.netns, BEYOND[version], ports=int(FLOWS / SLOWER), times=2)
        late = stack.enter_context(call(attacker.netns, VIPS[version], PORT))
        until(lambda: len(accepted) == IDLE + 1, "the attacker's own too")
        pairs = list(zip(accepted, [*idle, late], strict=True))
        assert sum(speaks(ours, theirs) for ours, theirs in pairs) == IDLE + 1
        refusals = node.fast.refusals()
    if node.conntrack:
        assert not refusals, "conntrack is asked, and nothing needs a record"
        assert grown["seen_refused"] == 0
    else:
        assert list(refusals) == [attacker.applied.host_ifindex], "nobody else was refused anything"
        assert grown["seen_refused"] >= 1
        assert refusals[attacker.applied.host_ifindex].share >= grown["seen_refused"]
    with node.counting("fast_local") as grown:
        exchange(attacker.netns, client.netns, client.address(version))
        exchange(client.netns, server.netns, server.address(version))
    assert grown == {"fast_local": 4, "forwarded": 0}, "whom the stack sent nothing to is reached as ever"


@VERSIONS
def test_hostile_a_pod_notes_peers_for_itself_alone(node: FastNode, version: int) -> None:
    attacker, other, server = node.pod(ENI1), node.pod(ENI1), node.pod(ENI2)
    install(node)
    node.fast.set_stack_prefixes(service=SERVICE, host_cidrs=_networks(), node=(HOST, HOST_V6))
    peers = _many(version)
    flood(attacker.netns, peers, ports=1, times=1)
    assert _noted(node, _slot(node, attacker)) > 0.08 * 2048
    assert _noted(node, _slot(node, other)) == _noted(node, _slot(node, server)) == 0
    with node.counting("fast_local") as grown:
        exchange(other.netns, server.netns, server.address(version))
        exchange(attacker.netns, server.netns, server.address(version))
    assert grown == {"fast_local": 4, "forwarded": 0}
    slot = _slot(node, attacker)
    new = _replaced(node, attacker)
    assert _slot(node, new) == slot
    assert _noted(node, slot) == 0
    exchange(new.netns, server.netns, server.address(version))


@VERSIONS
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_hostile_a_mark_is_not_believed(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    """Every bit set by the node's own rules on what the stack forwards, and by a process of the node."""
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    with namespace.entered(node.world.node):
        subprocess.run(["nft", "-f", "-"], input=PAINT, text=True, check=True)
    place = Place(server.netns, server.address(version), TARGET)
    with node.counting("seen_fast", "stack_flow") as grown:
        seen = converse(client.netns, Place(0, VIPS[version], PORT), place, kind=kind)
        with namespace.entered(node.world.node):
            sender = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, b"\xff" * 4)
            sender.sendto(b"x", (str(server.address(version)), 9))
    assert seen == str(client.address(version))
    assert grown["seen_fast"] == 0
    assert grown["stack_flow"] >= 3


_STAMP = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int stamp(struct __sk_buff *skb)
{
	skb->mark = 0xffffffff;
	skb->tc_index = 0xfa57;
	skb->tc_classid = 0xfa57;
	return TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
"""


@VERSIONS
def test_hostile_a_pods_own_program_cannot_stamp(node: FastNode, version: int, tmp_path: Path) -> None:
    """A pod that may load programs stamps what it sends as the fast path does."""
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    source, target = tmp_path / "stamp.bpf.c", tmp_path / "stamp.bpf.o"
    source.write_text(_STAMP)
    include = next(iter(Path("/usr/include").glob("*-linux-gnu")))
    words = ["clang", "-O2", "-g", "-target", "bpf", f"-I{include}", "-c", str(source), "-o", str(target)]
    subprocess.run(words, check=True)
    with Object(target) as program:
        program.load()
        with namespace.entered(client.netns):
            hook = TcHook(socket.if_nametoindex("eth0"), Direction.EGRESS)
            hook.create()
            hook.attach(program.program_fd("stamp"))
        place = Place(server.netns, server.address(version), TARGET)
        with node.counting("seen_fast", "stack_flow") as grown:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                seen = converse(client.netns, Place(0, VIPS[version], PORT), place, kind=kind)
                assert seen == str(client.address(version))
    assert grown["seen_fast"] == 0
    assert grown["stack_flow"] >= 6


@VERSIONS
def test_hostile_records_outlive_epochs_and_not_their_flows(
    node: FastNode, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection is known however often the agent tidies; a flow that is forgotten is fast again."""
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    place = Place(server.netns, server.address(version), TARGET)
    monkeypatch.setattr(flows_module, "MARGIN", 0)
    with namespace.entered(node.world.node):
        for name in ("udp_timeout", "udp_timeout_stream"):
            sysctl.write(f"net/netfilter/nf_conntrack_{name}", "1")
    with serving(place) as accepted, call(client.netns, VIPS[version], PORT) as one:
        until(lambda: len(accepted) == 1, "it is accepted")
        for _ in range(5):
            node.fast.turn_flows(at_once=True)
        assert speaks(accepted[0], one)
        assert _datagrams(client, VIPS[version], PORT, place, 40_000)

        def direct() -> bool:
            """By the stack as long as the call is remembered."""
            node.fast.turn_flows(at_once=True)
            before = node.count("fast_local")
            assert _datagrams(client, place.address, TARGET, place, 40_000)
            return node.count("fast_local") == before + 2

        assert not direct()
        until(lambda: _waited(1.3) and direct(), "the flow is forgotten")
        assert speaks(accepted[0], one), "the connection is not"


@VERSIONS
def test_hostile_a_full_table_costs_the_late_no_connection(node: FastNode, version: int) -> None:
    """Several pods have filled it; those who come afterwards are harmed no more than who fills it."""
    node.fast.remove()
    node.close()
    node.open(options=Options(flows=64))
    node.prepare()
    attacker, client, server = node.pod(ENI1), node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    node.fast.set_stack_prefixes(service=SERVICE, host_cidrs=_networks(), node=(HOST, HOST_V6))
    with serving(Place(server.netns, server.address(version), TARGET)) as accepted, ExitStack() as stack:
        flood(attacker.netns, BEYOND[version], ports=30, times=2)
        idle = [stack.enter_context(call(client.netns, VIPS[version], PORT)) for _ in range(3)]
        until(lambda: len(accepted) == 3, "all are accepted")
        assert all(speaks(ours, theirs) for ours, theirs in list(zip(accepted, idle, strict=True)))
    if not node.conntrack:
        refused = node.fast.refusals()
        assert refused[attacker.applied.host_ifindex].full >= 1
        assert refused[client.applied.host_ifindex].full >= 1
    exchange(client.netns, attacker.netns, attacker.address(version))


@VERSIONS
def test_hostile_a_row_that_was_lost_costs_no_connection(node: FastNode, version: int) -> None:
    """A foreign hand took the client's rows; the agent puts them back while a connection lies idle."""
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    with serving(Place(server.netns, server.address(version), TARGET)) as accepted:
        with call(client.netns, VIPS[version], PORT) as idle:
            until(lambda: len(accepted) == 1, "it is accepted")
            (row,) = (p for i, p in node.fast.endpoints().items() if i == client.applied.host_ifindex)
            node.fast.drop_endpoint(client.applied.host_ifindex)
            node.fast.put_endpoint(row, earlier=True)
            assert speaks(accepted[0], idle)
    with node.counting("fast_local") as grown:
        exchange(server.netns, client.netns, client.address(version))
    assert (grown["fast_local"] == 2) is node.conntrack, "without records all is the stack's for a while"


@asks_conntrack
@VERSIONS
def test_hostile_conntrack_that_can_be_asked_no_more(node: FastNode, version: int) -> None:
    """Programs of the other way take over and back while a connection lies idle."""
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    with serving(Place(server.netns, server.address(version), TARGET)) as accepted:
        with call(client.netns, VIPS[version], PORT) as idle:
            until(lambda: len(accepted) == 1, "it is accepted")
            for _ in range(2):
                node.conntrack = not node.conntrack
                node.reopen()
                assert speaks(accepted[0], idle)
    with serving(Place(server.netns, server.address(version), TARGET)):
        call(client.netns, server.address(version), TARGET).close()
        new = node.pod(ENI1)
        call(new.netns, server.address(version), TARGET).close()


def _waited(seconds: float) -> bool:
    """Longer than what has just been renewed is remembered."""
    time.sleep(seconds)
    return True


def _backend(node: FastNode, where: str, version: int) -> Place:
    if where == "elsewhere":
        return Place(node.far, FARS[version], TARGET)
    pod = node.pod(ENI2)
    return Place(pod.netns, pod.address(version), TARGET)


def _datagrams(client: Tenant, called: Address, port: int, server: Place, own: int) -> bool:
    """One to the server and its answer, from the port ``own``; False if it came from somebody else."""
    family = socket.AF_INET if called.version == 4 else socket.AF_INET6
    with ExitStack() as stack:
        with namespace.entered(server.netns):
            listener = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        with namespace.entered(client.netns):
            caller = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        for one, address in ((listener, (str(server.address), server.port)), (caller, ("", own))):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.settimeout(5.0)
            one.bind(address)
        caller.connect((str(called), port))
        caller.send(b"asked")
        _, origin = listener.recvfrom(16)
        listener.sendto(b"answered", origin)
        return caller.recv(16) == b"answered"


def _networks() -> list[Network]:
    return [ip_network("198.51.100.0/24"), ip_network("2001:db8:51::/48")]


def _many(version: int) -> list[Address]:
    form = "198.51.100.{}" if version == 4 else "2001:db8:51::{:x}"
    return [ip_address(form.format(n)) for n in range(1, 255)]


def _slot(node: FastNode, tenant: Tenant) -> int:
    rows = {int(key): int(row["slot"]) for key, row in node.fast.rows("pods")}
    return rows[tenant.applied.host_ifindex]


def _noted(node: FastNode, slot: int) -> int:
    return int(np.count_nonzero(node.fast.rows("flow_owners")[slot][1]["noted"]))


def _replaced(node: FastNode, old: Tenant) -> Tenant:
    """The pod is deleted, and another gets its addresses."""
    node.fast.drop_endpoint(old.applied.host_ifindex)
    node.mode.teardown(old.endpoint, None)
    netns = node.world.namespace()
    return node.adopt(netns, old.endpoint)
