"""An attacker with root in a pod, by real frames through real links, with the fast path on and off.

Beside ``tests/bpf/test_hostile.py`` this is the kernel's part: tags as the kernel hands them to the program,
its one neighbour table, its tunnels, its segments.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest

from datapath import namespace
from tests.e2e.hostile_frames import (
    GATEWAY,
    GATEWAY_V6,
    PORT,
    Stance,
    attacks,
    datagram,
    floods,
    sent,
)
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, Address, witness
from tests.netns.fastpath.conversation import transfer
from tests.netns.fastpath.node import FAR, FAR_V6, FastNode, Tenant
from tests.netns.fastpath.test_edges import raw_socket, udp_socket

VERSIONS = (4, 6)
NODE: dict[int, Address] = {4: HOST, 6: HOST_V6}
PERMANENT = 0x80
FLOOD = 500
"""Of each message: six in all, and more than gc_thresh2 of each family's table."""

SOL_UDP, UDP_SEGMENT = 17, 103

pytestmark = pytest.mark.parametrize("on", [True, False], ids=["on", "off"])


def stance(attacker: Tenant, victim: Tenant, target: Tenant) -> Stance:
    def addresses(tenant: Tenant) -> dict[int, Address]:
        return {version: tenant.address(version) for version in VERSIONS}

    return Stance(
        mac=attacker.applied.pod_mac,
        host_mac=attacker.applied.host_mac,
        own=addresses(attacker),
        victim=addresses(victim),
        victim_mac=victim.applied.pod_mac,
        target=addresses(target),
        node=NODE,
    )


@contextmanager
def ears(target: Tenant) -> Iterator[dict[int, socket.socket]]:
    """Where what an attacker gets through is heard."""
    with ExitStack() as stack:
        found = {version: stack.enter_context(udp_socket(target.netns, version)) for version in VERSIONS}
        for version, ear in found.items():
            ear.bind((str(target.address(version)), PORT))
        yield found


def test_no_attack_gets_through(node: FastNode, on: bool) -> None:
    attacker, victim, target = node.pod(ENI1), node.pod(ENI1), node.pod(ENI2)
    at = stance(attacker, victim, target)
    node.fast.switch(on)
    # What opens most: the stack routes whatever it is handed.
    with ears(target) as listening, raw_socket(attacker) as raw:
        with node.counting() as grown:
            wrong = []
            for attack in attacks(at):
                before = node.count(attack.reason)
                raw.send(attack.frame)
                if node.count(attack.reason) != before + 1:
                    wrong.append(attack.id)
        assert not wrong
        assert grown["forwarded"] == 0
        for version, ear in listening.items():
            honest = datagram(at.own[version], at.target[version], b"honest")
            raw.send(sent(at, honest))
            assert ear.recv(100) == b"honest", "the first that arrives is the honest one"


def neighbours(node: FastNode) -> list[tuple[int, str]]:
    """All that the node has learned about by itself, by device."""
    with witness(node.world.node) as reader:
        found = [(one["ifindex"], str(one.get("dst"))) for one in reader.get_neighbours() if not _given(one)]
        for index in node.enis.values():
            found = [one for one in found if one[0] != index]
        return found


def _given(one: Any) -> bool:
    """By the agent, or by the kernel to a group or a loopback, which no sender can add to."""
    return bool(one["state"] & (PERMANENT | 0x40))


@pytest.mark.usefixtures("neighbour_table")
def test_invented_senders_make_no_neighbours(node: FastNode, on: bool) -> None:
    """The node has one neighbour table for all pods, and it has an end (gc_thresh3)."""
    attacker, victim, target = node.pod(ENI1), node.pod(ENI1), node.pod(ENI2)
    node.fast.switch(on)
    at = stance(attacker, victim, target)
    before = neighbours(node)
    with raw_socket(attacker) as raw, node.counting("drop_neighbour", "fast_answer") as grown:
        for one in floods(at, FLOOD):
            raw.send(one)
    assert grown["drop_neighbour"] == 5 * FLOOD
    assert grown["fast_answer"] == FLOOD
    assert neighbours(node) == before
    for version in VERSIONS:
        exchange(victim.netns, target.netns, target.address(version))
        exchange(victim.netns, node.far, FAR if version == 4 else FAR_V6)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_without_permanent_neighbours_finds_its_gateway(
    node: FastNode, on: bool, version: int
) -> None:
    """A stack of its own (Kata, gVisor) knows nothing of the neighbours that the agent wrote."""
    guest, other = node.pod(ENI1), node.pod(ENI2)
    node.fast.switch(on)
    gateway = str(GATEWAY if version == 4 else GATEWAY_V6)
    with witness(guest.netns) as reader:
        index = reader.link_lookup(ifname="eth0")[0]
        reader.neigh("del", dst=gateway, ifindex=index)
        with node.counting("fast_answer") as grown:
            exchange(guest.netns, other.netns, other.address(version))
        (learned,) = (one for one in reader.get_neighbours(ifindex=index) if str(one.get("dst")) == gateway)
        assert learned.get("lladdr") == guest.applied.host_mac
    assert grown["fast_answer"] >= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_veth_that_no_row_is_of_sends_nothing(node: FastNode, on: bool, version: int) -> None:
    """A row that a foreign hand deleted, or a map without room: until it is mended nobody knows who it is."""
    lost, other = node.pod(ENI1), node.pod(ENI2)
    node.fast.drop_endpoint(lost.applied.host_ifindex)
    node.fast.switch(on)
    with node.counting("drop_unknown_pod") as grown, pytest.raises(TimeoutError):
        exchange(lost.netns, other.netns, other.address(version))
    assert grown["drop_unknown_pod"] >= 1
    assert grown["forwarded"] == 0
    node.put(lost)
    exchange(lost.netns, other.netns, other.address(version))


def longest(node: FastNode, mtu: int) -> Tenant:
    """A pod whose link takes 1500 bytes, on an ENI that takes ``mtu``."""
    pod = node.pod(ENI1)
    with witness(node.world.node) as reader:
        reader.link("set", index=node.enis["eni1"], mtu=mtu)
    node.put_eni(ENI1, mtu=mtu)
    return pod


@pytest.mark.parametrize("version", VERSIONS)
def test_segments_of_a_tunnel_are_measured_with_all_their_headers(
    node: FastNode, on: bool, version: int
) -> None:
    """A pod's VXLAN: with what is inside them they are longer than the ENI's MTU, without they are not."""
    pod, far = longest(node, 1450), FAR if version == 4 else FAR_V6
    node.fast.switch(on)
    ends = ((pod.netns, far, 1), (node.far, pod.address(version), 2))
    for netns, remote, number in ends:
        with namespace.entered(netns):
            for command in (
                f"link add vx0 mtu 1430 type vxlan id 9 remote {remote} dstport 4789 dev eth0 udp6zerocsumrx",
                f"addr add 192.168.77.{number}/24 dev vx0",
                "link set vx0 up",
            ):
                subprocess.run(["ip", *command.split()], check=True)
    with node.counting("fast_eni", "fast_neigh", "stack_mtu", "stack_off") as grown:
        transfer(pod.netns, node.far, IPv4Address("192.168.77.2"), size=2 << 20)
    assert grown["stack_mtu"] > 0 if on else grown["stack_off"] > 0
    with witness(node.world.node) as reader:
        (eni,) = reader.get_links(node.enis["eni1"])
        assert eni.get("stats64").get("tx_dropped") == 0


@pytest.mark.parametrize(("segment", "fits"), [(1402, True), (1403, False)])
def test_datagrams_that_are_made_of_segments_are_measured_one_by_one(
    node: FastNode, on: bool, segment: int, fits: bool
) -> None:
    """As QUIC sends them (UDP_SEGMENT): 20 + 8 bytes of headers each."""
    pod = longest(node, 1430)
    node.fast.switch(on)
    with udp_socket(pod.netns, 4) as one, node.counting("fast_eni", "fast_neigh", "stack_mtu") as grown:
        one.setsockopt(SOL_UDP, UDP_SEGMENT, segment)
        one.sendto(bytes(3 * segment), (str(FAR), 9000))
    # Three where the veth takes no such frames (before Linux 5.18): the pod's own stack makes them.
    fast, by_stack = grown["fast_eni"] + grown["fast_neigh"], grown["stack_mtu"]
    assert (fast in (1, 3), by_stack) == (True, 0) if on and fits else fast == 0
    assert by_stack in ((1, 3) if on and not fits else (0,))
