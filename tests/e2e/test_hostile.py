"""An attacker with root in a pod of a real agent's: nobody hears it as somebody else, or is hurt.

The same attacks with eBPF and with ``-bpf off``, where the host's stack is all there is.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from datapath import namespace
from lab.client import Lab
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
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
from tests.e2e.test_fastpath import asked
from tests.e2e.witnesses import reaches, settled, until
from tests.netns.datapath.world import Address, witness
from tests.pace import patience

VERSIONS = (4, 6)
PATIENCE = patience(5.0)
FLOOD = 400
INVENTED = {"on": 1, "off": 24}
"""Neighbours that a pod may make on the node, by the word after ``-bpf``: the link-local address that is made
of its MAC, or what the stack's limit lets through."""


@pytest.fixture(scope="module", params=["on", "off"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def node(lab: Lab, mode: str) -> Iterator[Bench]:
    """Dual stack, with the pods that the tests share: the attacker, the victim, and the target."""
    with bench(lab, ip_stack="dual") as made:
        made.node.start_agent(["-bpf", mode])
        for name in ("attacker", "victim", "target"):
            made.pod(name)
        settled(made.node)
        yield made


def pod(node: Bench, name: str) -> LabPod:
    return node.lab.pod(f"{node.node.name}/{name}")


@contextmanager
def entered(inside: LabPod) -> Iterator[None]:
    fd = inside.netns_fd()
    try:
        with namespace.entered(fd):
            yield
    finally:
        os.close(fd)


@contextmanager
def reading(inside: LabPod) -> Iterator[Any]:
    fd = inside.netns_fd()
    try:
        with witness(fd) as reader:
            yield reader
    finally:
        os.close(fd)


def macs(inside: LabPod) -> tuple[str, str]:
    """The pod's own, and its host veth's, which it knows as its gateway's."""
    with reading(inside) as reader:
        index = reader.link_lookup(ifname="eth0")[0]
        (link,) = reader.get_links(index)
        (gateway,) = reader.get_neighbours(dst=str(GATEWAY), ifindex=index)
        return str(link.get("address")), str(gateway.get("lladdr"))


def addresses(inside: LabPod) -> dict[int, Address]:
    return {one.version: one for one in inside.addresses}


def stance(node: Bench) -> Stance:
    attacker, victim, target = (pod(node, name) for name in ("attacker", "victim", "target"))
    mac, host_mac = macs(attacker)
    told = node.node.exec(["ip", "-j", "-6", "addr", "show", "dev", "eth0", "scope", "global"], check=True)
    node_v6 = json.loads(told.stdout)[0]["addr_info"][0]["local"]
    of_node = {4: ip_address(node.node.address), 6: ip_address(node_v6)}
    own = [addresses(one) for one in (attacker, victim, target)]
    return Stance(mac, host_mac, own[0], own[1], macs(victim)[0], own[2], of_node)


@contextmanager
def raw_socket(inside: LabPod) -> Iterator[socket.socket]:
    with entered(inside):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind(("eth0", 0))
    with made:
        yield made


@contextmanager
def ears(target: LabPod) -> Iterator[dict[int, socket.socket]]:
    found = {}
    with ExitStack() as stack:
        with entered(target):
            for version, address in addresses(target).items():
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                found[version] = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                found[version].bind((str(address), PORT))
                found[version].settimeout(PATIENCE)
        yield found


def heard(ear: socket.socket) -> set[str]:
    """From whom datagrams have come, up to the honest one."""
    origins = set()
    while True:
        data, origin = ear.recvfrom(2000)
        origins.add(str(origin[0]))
        if data == b"honest":
            return origins


def counted(node: Bench) -> Counter[str]:
    """What pod_egress has counted, by reason; nothing where there is no eBPF."""
    status, _ = node.node.agent_get("/bpf/counters")
    if status != 200:
        return Counter()
    rows = asked(node.node, "/bpf/counters")
    return Counter({row["reason"]: row["packets"] for row in rows if row["hook"] == "pod_egress"})


def test_nobody_hears_a_hostile_pod_as_somebody_else(node: Bench, mode: str) -> None:
    attacker, target = pod(node, "attacker"), pod(node, "target")
    at, listed = stance(node), attacks(stance(node))
    before, refused = counted(node), node.drops()
    with ears(target) as listening, raw_socket(attacker) as raw:
        for attack in listed:
            raw.send(attack.frame)
        for version, ear in listening.items():
            raw.send(sent(at, datagram(at.own[version], at.target[version], b"honest")))
            assert heard(ear) == {str(at.own[version])}, "only with its own address"
    grown = counted(node) - before
    if mode == "on":
        wanted = Counter(attack.reason for attack in listed)
        assert not wanted - grown, "each was dropped, and has its reason"
    assert node.drops() == refused, "nothing of it left the node"


def learned(node: Bench) -> int:
    """Neighbours that the node has found by itself at pods' links."""
    done = node.node.exec(["ip", "-j", "neigh", "show", "nud", "all"], check=True)
    by_itself = [one for one in json.loads(done.stdout) if not {"PERMANENT", "NOARP"} & set(one["state"])]
    return sum(not one["dev"].startswith("eth") for one in by_itself)


@pytest.mark.usefixtures("neighbour_table")
def test_a_hostile_pods_invented_neighbours_fill_no_table(node: Bench, mode: str) -> None:
    victim, target = pod(node, "victim"), pod(node, "target")
    at, before = stance(node), learned(node)
    with raw_socket(pod(node, "attacker")) as raw:
        for one in floods(at, FLOOD):
            raw.send(one)
    assert learned(node) <= before + INVENTED[mode]
    for address in target.addresses:
        assert reaches(victim, str(address))


@pytest.mark.parametrize("mode", ["on"], indirect=True)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_with_a_stack_of_its_own_finds_its_gateway(node: Bench, version: int) -> None:
    """It asks, where the pod's namespace has permanent neighbours (Kata, gVisor)."""
    guest, target = node.pod(f"guest-{version}"), pod(node, "target")
    gateway, (_, host_mac) = str(GATEWAY if version == 4 else GATEWAY_V6), macs(guest)
    with reading(guest) as reader:
        index = reader.link_lookup(ifname="eth0")[0]
        reader.neigh("del", dst=gateway, ifindex=index)
        assert reaches(guest, str(addresses(target)[version]))
        (found,) = (n for n in reader.get_neighbours(ifindex=index) if str(n.get("dst")) == gateway)
        assert found.get("lladdr") == host_mac


@pytest.mark.parametrize("mode", ["on"], indirect=True)
def test_a_hostile_pod_that_takes_its_link_down_loses_nothing_unsaid(node: Bench) -> None:
    """The agent hears of it by itself; up again, the rows say so."""
    down, victim = node.pod("down"), pod(node, "victim")
    assert reaches(victim, str(down.ipv4))

    def set_link(state: str) -> None:
        with reading(down) as reader:
            reader.link("set", index=reader.link_lookup(ifname="eth0")[0], state=state)

    def is_down() -> bool:
        rows = asked(node.node, "/bpf/map/endpoints")
        return any("down" in row["value"]["flags"] for row in rows if row["key"] == str(down.ipv4))

    set_link("down")
    until(is_down, bool)
    before = counted(node)
    for address in down.addresses:
        assert not reaches(victim, str(address))
    grown = counted(node) - before
    assert grown["drop_pod_down"] >= 2
    assert not grown["fast_local"]
    set_link("up")
    until(is_down, lambda still: not still)
    # Down for the agent as it starts, too.
    set_link("down")
    node.node.stop_agent()
    node.node.start_agent(["-bpf", "on"])
    settled(node.node)
    until(is_down, bool)


@pytest.mark.parametrize("mode", ["on"], indirect=True)
def test_an_eni_that_a_hand_takes_down_is_up_again_at_once(node: Bench) -> None:
    """The kernel tells of it, and nobody waits for the next round."""
    victim = pod(node, "victim")
    assert reaches(victim, str(OUTSIDE_ADDRESS))

    def rows() -> int:
        return len(asked(node.node, "/bpf/map/uplinks"))

    before = rows()
    node.node.exec(["ip", "link", "set", "eth1", "down"], check=True)
    until(node.node.agent_log, lambda log: "repaired link eth1 of ENI" in log)
    until(rows, lambda found: found == before)
    until(lambda: reaches(victim, str(OUTSIDE_ADDRESS)), bool)
