"""The three witnesses of a node, each asked by its own means, and what it means that they agree.

The ledger is read from the daemon's window, the cloud from the lab's write state, and the kernel by
pyroute2, which shares no line with the codec the daemon writes with.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

from pyroute2 import IPRoute

from datapath import namespace
from datapath.modes.policy_route.layout import PRIORITY_FROM_POD, TABLE_PODS
from lab.client import Lab
from lab.nodes.node import LabNode
from lab.sandbox import LabPod
from tests.e2e.fastpath_rows import pins, rows_of_pods

T = TypeVar("T")
DEADLINE = 90.0


def until(read: Callable[[], T], wanted: Callable[[T], bool], *, seconds: float = DEADLINE) -> T:
    """The first reading that is as wanted; fails with the last one."""
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if wanted(value):
            return value
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still {value!r}"
        time.sleep(0.02)


def state(node: LabNode) -> dict[str, Any]:
    status, body = node.agent_get("/state")
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def settled(node: LabNode) -> dict[str, Any]:
    """The daemon's state once nothing is under way."""
    return until(lambda: state(node), lambda s: s["settled"] and not s["operations"])


@dataclass(frozen=True, slots=True)
class KernelView:
    """What pods have in a node's kernel: link name to alias, routed addresses, addresses with a rule."""

    links: dict[str, str]
    routes: frozenset[str]
    rules: frozenset[str]
    macs: frozenset[str]


def kernel(lab: Lab, node: LabNode) -> KernelView:
    fd = lab.netns_fd(node.name)
    try:
        with namespace.entered(fd), IPRoute() as netlink:
            links = {x.get_attr("IFLA_IFNAME"): x for x in netlink.get_links()}
            routes = [
                r.get_attr("RTA_DST")
                for family in (socket.AF_INET, socket.AF_INET6)
                for r in netlink.get_routes(family=family, table=TABLE_PODS)
            ]
            rules = [
                r.get_attr("FRA_SRC")
                for family in (socket.AF_INET, socket.AF_INET6)
                for r in netlink.get_rules(family=family)
                if r.get_attr("FRA_PRIORITY") == PRIORITY_FROM_POD
            ]
    finally:
        os.close(fd)
    return KernelView(
        {n: x.get_attr("IFLA_IFALIAS") or "" for n, x in links.items() if n.startswith("cali")},
        frozenset(str(ip_address(r)) for r in routes if r),
        frozenset(str(ip_address(r)) for r in rules if r),
        frozenset(x.get_attr("IFLA_ADDRESS") for n, x in links.items() if n.startswith("eth")),
    )


def cloud_enis(lab: Lab, node: LabNode) -> dict[str, dict[str, Any]]:
    """Every secondary ENI the cloud knows for the node's pods: attached to it, or to nobody."""
    ours = (node.instance_id, None, "")
    enis = lab.cloud.state()["enis"]
    return {e["id"]: e for e in enis if e["type"] == "Secondary" and e["instance"] in ours}


def assert_agree(lab: Lab, node: LabNode) -> dict[str, Any]:
    """Ledger, cloud, kernel and fast path tell one story about the node's pods. Returns the ledger's."""
    told = settled(node)
    enis = {e["id"]: {r["ip"] for r in e["addresses"]} for e in told["enis"]}
    in_cloud = until(lambda: cloud_enis(lab, node), lambda c: all(e["status"] == "InUse" for e in c.values()))
    assert {i: set(e["addresses"]) for i, e in in_cloud.items()} == enis
    pods = {a["host_link"]: a["container_id"] for a in told["attachments"] if a["state"] == "ready"}
    addresses = {a[f] for a in told["attachments"] for f in ("ipv4", "ipv6") if a[f]}
    seen = until(lambda: kernel(lab, node), lambda k: k.links == pods and k.rules == addresses)
    assert seen.routes == addresses
    if pins(node):
        assert rows_of_pods(node).keys() == addresses
    held = {r["ip"] for e in told["enis"] for r in e["addresses"] if r["status"] == "assigned"}
    assert held == addresses
    macs = {e["mac"] for e in told["enis"]}
    assert macs <= seen.macs
    assert len(seen.macs) == len(macs) + 1, "the primary ENI and the ledger's, no other"
    return told


def reaches(source: LabPod | int, target: str, *, port: int = 7) -> bool:
    """A UDP datagram to ``target`` is answered, by an echo or by "port unreachable": both ways work."""
    fd = source if isinstance(source, int) else source.netns_fd()
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with namespace.entered(fd):
            made = socket.socket(family, socket.SOCK_DGRAM)
    finally:
        if not isinstance(source, int):
            os.close(fd)
    with made:
        made.settimeout(1.0)
        made.connect((target, port))
        for _ in range(5):
            try:
                made.send(b"?")
                made.recv(1)
                return True
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                continue
        return False
