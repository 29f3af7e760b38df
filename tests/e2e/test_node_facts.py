"""What is the node's own: a virtual address is not, and IPv6 of the node may come after the agent's start."""

from __future__ import annotations

import os

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import roomy
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import reaches, settled, until

VIRTUAL = "10.0.0.99"
KEEPALIVED = ["ip", "addr", "add", f"{VIRTUAL}/32", "dev", "eth0"]


def _on(bench: Bench, device: str) -> str:
    return bench.node.exec(["ip", "-o", "addr", "show", "dev", device, "scope", "global"], check=True).stdout


def test_facts_of_the_node_are_followed(lab: Lab) -> None:
    """keepalived's address is on eth0 at the start, and the node's IPv6 address comes later."""
    with roomy(lab) as bench:
        own_6 = next((w.split("/")[0] for w in _on(bench, "eth0").split() if ":" in w and "/" in w), "")
        if not own_6:
            pytest.skip("the lab's node has no IPv6 address of its own")
        bench.node.stop_agent()
        bench.node.exec(KEEPALIVED, check=True)
        bench.node.exec(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"], check=True)
        bench.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"})
        one, two = bench.pod("one"), bench.pod("two")
        settled(bench.node)
        for address in two.addresses:
            assert reaches(one, str(address)), "pods have IPv6 before the node has"
        assert VIRTUAL not in _on(bench, "eth1")
        until(lambda: _on(bench, "eth1"), lambda there: own_6 not in there)
        bench.node.exec(["ip", "addr", "add", f"{own_6}/64", "dev", "eth0", "nodad"], check=True)
        until(lambda: _on(bench, "eth1"), lambda there: own_6 in there)
        bench.node.exec(["ip", "addr", "add", f"{VIRTUAL}/32", "dev", "eth1"], check=True)
        until(lambda: _on(bench, "eth1"), lambda there: VIRTUAL not in there)


def _setting(bench: Bench, name: str) -> str:
    return bench.node.exec(["cat", f"/proc/sys/{name}"], check=True).stdout.strip()


@pytest.mark.long
def test_the_nodes_own_link_by_another_name_and_number(lab: Lab) -> None:
    """udev renames it, or the card is plugged anew: it is found by its MAC, and its settings are kept on."""
    with roomy(lab) as bench:
        one, two = bench.pod("one"), bench.pod("two")
        addresses = [w for w in _on(bench, "eth0").split() if "/" in w]
        bench.node.exec(["ip", "link", "set", "eth0", "name", "ens5"], check=True)
        bench.advance(11)
        filtered = "net/ipv4/conf/ens5/rp_filter"
        bench.node.exec(["sh", "-c", f"echo 1 > /proc/sys/{filtered}"], check=True)
        bench.advance(11)
        until(lambda: _setting(bench, filtered), lambda value: value == "0")
        assert reaches(one, str(two.ipv4))
        _plugged_anew(bench, "ens5", addresses)
        number = _number(bench, "ens5")
        bench.node.exec(["sh", "-c", f"echo 1 > /proc/sys/{filtered}"], check=True)
        bench.advance(11)
        until(lambda: _setting(bench, filtered), lambda value: value == "0")
        three = bench.pod("three")
        for pod in (one, two, three):
            assert reaches(pod, str(OUTSIDE_ADDRESS))
            assert reaches(pod, addresses[0].split("/")[0]), "the node itself"
        bench.node.stop_agent()
        bench.start()
        assert number == _number(bench, "ens5")
        assert reaches(bench.pod("four"), str(one.ipv4))
        assert bench.node.agent_get("/readyz")[0] == 200


def _number(bench: Bench, name: str) -> int:
    return int(bench.node.exec(["cat", f"/sys/class/net/{name}/ifindex"], check=True).stdout)


def _plugged_anew(bench: Bench, name: str, addresses: list[str]) -> None:
    """Out of the namespace and back, as another number, with the addresses and routes that it had."""
    routes = bench.node.exec(["ip", "route", "show", "dev", name], check=True).stdout.splitlines()
    before = _number(bench, name)
    node, away = bench.lab.netns_fd(bench.node.name), namespace.new()
    try:
        with namespace.entered(node), IPRoute() as reader:
            reader.link("set", index=before, net_ns_fd=away)
            reader.link("add", ifname="extra0", kind="veth", index=before, peer="extra1")
        with namespace.entered(away), IPRoute() as reader:
            (there,) = reader.link_lookup(ifname=name)
            reader.link("set", index=there, net_ns_fd=node)
        with namespace.entered(node), IPRoute() as reader:
            reader.link("del", ifname="extra0")
    finally:
        os.close(node)
        os.close(away)
    bench.node.exec(["ip", "link", "set", name, "up"], check=True)
    for address in addresses:
        bench.node.exec(["ip", "addr", "add", address, "dev", name], check=False)
    for route in routes:
        if "proto kernel" not in route:
            words = [word for word in route.split() if word not in ("linkdown", "onlink")]
            bench.node.exec(["ip", "route", "add", *words, "dev", name], check=False)
    assert _number(bench, name) != before
