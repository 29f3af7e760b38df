"""What the stack refuses hostile pods under terwayd, and where packets for no pod end: with eBPF and not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6
from tests.e2e import benches
from tests.e2e.conftest import Bench
from tests.e2e.test_fastpath import asked
from tests.e2e.witnesses import reaches, settled, until
from tests.netns.datapath.frames import (
    BROADCAST,
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    Address,
    arp,
    ethernet,
    group_mac,
    heard,
    raw,
    solicitation,
    udp,
)
from tests.netns.datapath.test_hostile import GATEWAY, GATEWAY_V6, answers
from tests.netns.datapath.test_hostile_nobody import UNREACHABLE, refusal

VERSIONS = pytest.mark.parametrize("version", [4, 6])
PORT = 4242
FORGED: dict[int, tuple[Address, ...]] = {
    4: tuple(map(IPv4Address, ("100.100.100.200", "172.21.0.1", "8.8.8.8", str(OUTSIDE_ADDRESS)))),
    6: tuple(map(IPv6Address, ("fd00:21::1", "2001:db8:dead::1", str(OUTSIDE_ADDRESS_V6)))),
}


@pytest.fixture(params=["ebpf", "bpf-off"])
def bench(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Bench]:
    """Dual stack; ``request.param`` says who carries the packets."""
    with benches.bench(lab, ip_stack="dual", instance_type="ecs.g7.4xlarge") as made:
        arguments = ["-bpf", "off"] if request.param == "bpf-off" else []
        made.node.start_agent(arguments, env={"TERWAY_TEST_CLOCK": "1"})
        yield made


@dataclass(frozen=True, slots=True)
class Inside:
    """A pod's namespace, its link's MAC and its gateway's."""

    netns: int
    mac: str
    gateway: str

    def frame(self, packet: bytes, tags: int) -> bytes:
        kind = ETH_IP if packet[0] >> 4 == 4 else ETH_IPV6
        return ethernet(self.gateway, self.mac, kind, packet, tags=tags)


@contextmanager
def inside(pod: LabPod) -> Iterator[Inside]:
    netns = pod.netns_fd()
    try:
        with namespace.entered(netns), IPRoute() as reader:
            (index,) = reader.link_lookup(ifname="eth0")
            (link,) = reader.get_links(index)
            (gateway,) = reader.get_neighbours(dst="169.254.1.1", ifindex=index)
        yield Inside(netns, link.get("address"), gateway.get("lladdr"))
    finally:
        os.close(netns)


def address(pod: LabPod, version: int) -> Address:
    found = pod.ipv4 if version == 4 else pod.ipv6
    assert found is not None
    return found


@VERSIONS
@pytest.mark.parametrize("tags", [0, 1], ids=["untagged", "vid0"])
def test_forged_sources_reach_nobody(bench: Bench, version: int, tags: int) -> None:
    attacker, neighbour, victim = (bench.pod(name) for name in ("bad", "near", "aim"))
    target, own = address(victim, version), address(attacker, version)
    with inside(attacker) as bad, inside(victim) as aim, ExitStack() as stack:
        listener = stack.enter_context(raw(aim.netns))
        sender = stack.enter_context(raw(bad.netns))
        for source in (address(neighbour, version), target, *FORGED[version]):
            sender.send(bad.frame(udp(source, target, PORT), tags))
        sender.send(bad.frame(udp(own, target, PORT), 0))
        first = heard(listener, lambda frame: frame.endswith(b"mark"))
    assert own.packed in first[:54], "the honest datagram, and none before it"
    assert not bench.drops(), "nothing of it left the node"


@VERSIONS
def test_an_address_without_a_pod(bench: Bench, lab: Lab, version: int) -> None:
    """From the node, from a pod of it and from another node: one pass, and the sender is told."""
    pod, gone = bench.pod("here"), bench.pod("gone")
    target = address(gone, version)
    assert reaches(pod, str(target))
    gone.remove()
    settled(bench.node)
    with benches.bench(lab, ip_stack="dual") as other, ExitStack() as stack:
        other.start()
        places = {"another node's pod": other.pod("there").netns_fd(), "a pod": pod.netns_fd()}
        places |= {"the node": lab.netns_fd(bench.node.name)}
        for fd in places.values():
            stack.callback(os.close, fd)
        enis = [stack.enter_context(raw(places["the node"], name)) for name in devices(places["the node"])]
        for place, netns in places.items():
            assert refusal(netns, target) in UNREACHABLE, place
            assert sum(left_by(eni, target) for eni in enis) <= 1, f"{place}: it goes round and round"
    assert not bench.drops()


@pytest.mark.usefixtures("neighbour_table")
def test_invented_senders_fill_no_table(bench: Bench) -> None:
    """More than the kernel keeps neighbours (gc_thresh3); the pod's own question is still answered."""
    pod = bench.pod("bad")
    (attachment,) = settled(bench.node)["attachments"]
    own = address(pod, 4)
    assert isinstance(own, IPv4Address)
    with inside(pod) as bad, raw(bad.netns) as wire:
        for number in range(1200):
            false = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            sender = IPv6Address(int(IPv6Address("fe80::1:0")) + number)
            asked_for = solicitation(sender, false, GATEWAY_V6)
            wire.send(ethernet(group_mac(GATEWAY_V6), false, ETH_IPV6, asked_for))
            claim = arp(false, IPv4Address(int(IPv4Address("10.0.0.0")) + number), GATEWAY)
            wire.send(ethernet(BROADCAST, false, ETH_ARP, claim))
        wire.send(ethernet(BROADCAST, bad.mac, ETH_ARP, arp(bad.mac, own, GATEWAY)))
        assert heard(wire, lambda frame: answers(frame, 4) and frame[38:42] == own.packed)
    netns = bench.lab.netns_fd(bench.node.name)
    try:
        with namespace.entered(netns), IPRoute() as reader:
            (link,) = reader.link_lookup(ifname=attachment["host_link"])
            found = [*reader.get_neighbours(family=2, ifindex=link)]
            found += reader.get_neighbours(family=10, ifindex=link)
    finally:
        os.close(netns)
    # Neither permanent nor NOARP, which is multicast's.
    assert len([one for one in found if not one["state"] & 0xC0]) <= 24


def test_a_loosened_link_is_shut_again_at_once(bench: Bench) -> None:
    """As systemd-udevd loosens each new one. Nobody waits for the next repair."""
    bench.pod("web")
    (attachment,) = settled(bench.node)["attachments"]
    setting = f"/proc/sys/net/ipv4/conf/{attachment['host_link']}/rp_filter"
    bench.node.exec(["sh", "-c", f"echo 2 >{setting}"])
    until(lambda: bench.node.exec(["cat", setting]).stdout, lambda value: value.strip() == "1")
    until(bench.node.agent_log, lambda log: f"put back link {attachment['host_link']}" in log)


@VERSIONS
def test_a_guest_with_a_stack_of_its_own_is_answered(bench: Bench, version: int) -> None:
    """Kata's and gVisor's ask for the gateway, where a pod's kernel has a permanent neighbour."""
    pod = bench.pod("guest")
    own = address(pod, version)
    with inside(pod) as guest, raw(guest.netns) as wire:
        if isinstance(own, IPv4Address):
            wire.send(ethernet(BROADCAST, guest.mac, ETH_ARP, arp(guest.mac, own, GATEWAY)))
        else:
            asked_for = solicitation(own, guest.mac, GATEWAY_V6)
            wire.send(ethernet(group_mac(GATEWAY_V6), guest.mac, ETH_IPV6, asked_for))
        answer = heard(wire, lambda frame: answers(frame, version))
    assert answer[6:12] == bytes.fromhex(guest.gateway.replace(":", ""))
    assert reaches(pod, str(OUTSIDE_ADDRESS if version == 4 else OUTSIDE_ADDRESS_V6))


def devices(netns: int) -> list[str]:
    """Of the node's ENIs."""
    with namespace.entered(netns), IPRoute() as reader:
        names = [str(one.get("ifname")) for one in reader.get_links()]
    return [one for one in names if one.startswith(("eth", "eni"))]


def left_by(device: socket.socket, target: Address) -> int:
    """Packets to ``target`` that have left by the device since it was asked last."""
    device.setblocking(False)
    where, found = (30 if target.version == 4 else 38), 0
    while True:
        try:
            frame, origin = device.recvfrom(2048)
        except BlockingIOError:
            return found
        found += origin[2] == socket.PACKET_OUTGOING and frame[where:].startswith(target.packed)


def test_who_checks_what_is_told(bench: Bench) -> None:
    """The first lock that a lie meets counts it: eBPF where there is some, else nf_tables."""
    mode = asked(bench.node, "/mode")
    ebpf = ["eBPF"] if mode["in_force"]["bpf"] else []
    assert mode["checks"]["source_ipv4"] == [*ebpf, "nftables", "rp_filter"]
    assert mode["checks"]["source_ipv6"] == [*ebpf, "nftables"]
    assert all(mode["checks"].values()), "somebody refuses each kind of lie"
    assert not any("not checked" in line for line in mode["because"])
    assert mode["refused"]["source"] == 0
    pod = bench.pod("bad")
    with inside(pod) as bad, raw(bad.netns) as sender:
        sender.send(bad.frame(udp(IPv4Address("8.8.8.8"), OUTSIDE_ADDRESS, PORT), 1))
    counted = 'terway_guard_packets_total{reason="source"} 1.0'
    if ebpf:
        counted = 'terway_fastpath_packets_total{hook="pod_egress",reason="drop_vlan"} 1.0'
    until(lambda: bench.node.agent_get("/metrics")[1], lambda metrics: counted in metrics)
    assert asked(bench.node, "/mode")["refused"]["source"] == (0 if ebpf else 1)


def test_a_foreign_flush_is_mended_and_told(bench: Bench) -> None:
    """Also after the agent was killed; and the table is no reason for the fast path to be off."""
    before = asked(bench.node, "/mode")["in_force"]["bpf"]
    netns = bench.lab.netns_fd(bench.node.name)
    try:
        with namespace.entered(netns):
            subprocess.run(["nft", "flush", "ruleset"], check=True)
    finally:
        os.close(netns)
    bench.advance(61)
    until(bench.node.agent_log, lambda log: "repaired nft table inet terway: absent" in log)
    _, metrics = bench.node.agent_get("/metrics")
    assert 'terway_kernel_repairs_total{kind="nft"} 1.0' in metrics
    assert asked(bench.node, "/mode")["in_force"]["bpf"] is before
    bench.node.stop_agent(signal.SIGKILL)
    bench.node.start_agent([] if before else ["-bpf", "off"], env={"TERWAY_TEST_CLOCK": "1"})
    answer: dict[str, Any] = asked(bench.node, "/mode")
    assert all(answer["checks"].values()), json.dumps(answer)
