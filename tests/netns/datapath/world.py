"""A node with two secondary ENIs and the router behind them, in namespaces of their own.

    node ── eth0, eni1 ── vSwitch A 10.0.0.0/24, 2001:db8:10:a::/64 ─┐
         └─ eni2 ──────── vSwitch B 10.0.1.0/24, 2001:db8:10:b::/64 ─┴─ router, outside

The outside is 203.0.113.10 and 2001:db8:ffff::10 on the router itself.

eth0 and eni1 are in one vSwitch, as the first ENIs of a node are. As in the cloud, the router maps a pod's
address to its ENI's MAC by itself: nobody asks the node. Everything is built and read with pyroute2, which
the datapath does not use, so that the two check each other.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, NamedTuple

from pyroute2 import IPRoute

from datapath import namespace, sysctl
from datapath.endpoint import Applied, AppliedVeth, Endpoint, EniLink, Mode, SharedEni
from datapath.modes.policy_route.mode import PolicyRoute
from datapath.node_datapath import NodeDatapath
from datapath.pod.names import host_link_name
from tests.pace import patience

Address = IPv4Address | IPv6Address

HOST = IPv4Address("10.0.0.10")
HOST_V6 = IPv6Address("2001:db8:10:a::10")
OUTSIDE = IPv4Address("203.0.113.10")
OUTSIDE_V6 = IPv6Address("2001:db8:ffff::10")
NODAD = 0x02


class Card(NamedTuple):
    """An ENI of the node: ``port`` is the router's end. ``behind``: what it is reached for."""

    name: str
    port: str
    mac: str
    gateway: str
    gateway_v6: str
    behind: str
    behind_v6: str


V6_A, V6_B = "2001:db8:10:a", "2001:db8:10:b"
ETH0 = Card(
    "eth0",
    "port0",
    "00:16:3e:00:00:10",
    "10.0.0.253",
    f"{V6_A}:ffff:ffff:ffff:fffd",
    "10.0.0.10/32",
    f"{V6_A}::10/128",
)
ENI1 = Card(
    "eni1",
    "port1",
    "00:16:3e:00:00:11",
    "10.0.0.253",
    f"{V6_A}:ffff:ffff:ffff:fffd",
    "10.0.0.128/25",
    f"{V6_A}:1::/80",
)
ENI2 = Card(
    "eni2",
    "port2",
    "00:16:3e:00:00:12",
    "10.0.1.253",
    f"{V6_B}:ffff:ffff:ffff:fffd",
    "10.0.1.0/25",
    f"{V6_B}:1::/80",
)


def eni_link(card: Card, *, version_6: bool = True) -> EniLink:
    gateway_v6 = IPv6Address(card.gateway_v6) if version_6 else None
    return EniLink(card.mac, IPv4Address(card.gateway), gateway_v6)


def shared(eni: EniLink) -> SharedEni:
    return SharedEni(f"eni-{eni.mac}", eni)


def veth(applied: Applied) -> AppliedVeth:
    assert isinstance(applied, AppliedVeth)
    return applied


def policy_route(datapath: NodeDatapath) -> PolicyRoute:
    """The mode itself, for what it shows of its inside."""
    found = datapath.modes[Mode.POLICY_ROUTE]
    assert isinstance(found, PolicyRoute)
    return found


@contextmanager
def witness(netns: int) -> Iterator[Any]:
    """A pyroute2 socket in the namespace."""
    with namespace.entered(netns):
        reader = IPRoute()
    try:
        yield reader
    finally:
        reader.close()


class World:
    """Owns the namespaces; ``close`` lets them go."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._serial = itertools.count(1)
        self.node = self.namespace()
        self.router = self.namespace()
        with witness(self.node) as node, witness(self.router) as router:
            _build(node, router, self.router)
        with namespace.entered(self.router):
            # The node asks from every ENI for the gateway, with one and the same address.
            sysctl.write("net/ipv4/conf/all/rp_filter", "0")
            for family in ("ipv4", "ipv6"):
                sysctl.write(f"net/{family}/conf/all/forwarding", "1")

    def namespace(self) -> int:
        netns = namespace.new()
        self._stack.callback(os.close, netns)
        return netns

    @staticmethod
    @contextmanager
    def passing() -> Iterator[int]:
        """A namespace that is gone after the block."""
        netns = namespace.new()
        try:
            yield netns
        finally:
            os.close(netns)

    @staticmethod
    def await_gone(netns: int, ifindex: int) -> None:
        """Until the kernel has removed the link; it does so in its own time after a namespace's end."""
        deadline = time.monotonic() + patience(10)
        with witness(netns) as reader:
            while any(one["index"] == ifindex for one in reader.get_links()):
                assert time.monotonic() < deadline, f"link {ifindex} is still there"
                time.sleep(0.005)

    def endpoint(self, card: Card = ENI1, *, version_6: bool = True, **changes: Any) -> Endpoint:
        """A new pod on the ENI, with the next free address."""
        number = next(self._serial)
        first = 129 if card is ENI1 else 1
        address = f"10.0.{0 if card is ENI1 else 1}.{first + number % 120}"
        prefix = V6_A if card is ENI1 else V6_B
        values: dict[str, Any] = {
            "host_link": host_link_name("default", f"pod-{number}", "eth0"),
            "ifname": "eth0",
            "container_id": f"{number:064x}",
            "mode": Mode.POLICY_ROUTE,
            "uplink": shared(eni_link(card, version_6=version_6)),
            "ipv4": IPv4Address(address),
            "ipv6": IPv6Address(f"{prefix}:1::{number:x}") if version_6 else None,
        }
        return Endpoint(**(values | changes))

    def snapshot(self, netns: int) -> dict[str, set[str]]:
        return snapshot(netns)

    def received_by_router(self) -> dict[str, int]:
        """Packets that came in by each port."""
        with witness(self.router) as reader:
            links = [one for one in reader.get_links() if one.get("ifname").startswith("port")]
            return {one.get("ifname"): one.get("stats64").get("rx_packets") for one in links}

    def close(self) -> None:
        self._stack.close()


def snapshot(netns: int) -> dict[str, set[str]]:
    """Every link, address, route, rule and permanent neighbour of a namespace, as text, by pyroute2."""
    with witness(netns) as reader:
        return {
            "links": {one.get("ifname") for one in reader.get_links()},
            # Those of scope link come a moment after their link, by the kernel's own doing.
            "addresses": {_address(one) for one in reader.get_addr() if one["scope"] != SCOPE_LINK},
            "routes": {_route(one) for one in reader.get_routes() if not _from_kernel(one)},
            "rules": {_rule(one) for one in (*reader.get_rules(family=2), *reader.get_rules(family=10))},
            "neighbours": {_neighbour(one) for one in reader.get_neighbours() if one["state"] & 0x80},
        }


def _build(node: Any, router: Any, router_fd: int) -> None:
    for reader in (node, router):
        reader.link("set", index=1, state="up")
    for card in (ETH0, ENI1, ENI2):
        peer = {"ifname": card.port, "address": f"ee:ff:ff:ff:ff:f{card.port[-1]}", "net_ns_fd": router_fd}
        node.link("add", ifname=card.name, kind="veth", address=card.mac, peer=peer)
        _build_port(router, card)
    index = node.link_lookup(ifname="eth0")[0]
    node.link("set", index=index, state="up")
    node.addr("add", index=index, address=str(HOST), prefixlen=24)
    node.addr("add", index=index, address=str(HOST_V6), prefixlen=64, flags=NODAD)
    node.route("add", dst="0.0.0.0/0", gateway=ETH0.gateway, oif=index)
    node.route("add", dst="::/0", gateway=ETH0.gateway_v6, oif=index)
    for address in (OUTSIDE, OUTSIDE_V6):
        router.addr("add", index=1, address=str(address), prefixlen=address.max_prefixlen, flags=NODAD)


def _build_port(router: Any, card: Card) -> None:
    """The port's next hops are made up: each stands for "the ENI's MAC", as the cloud's tables do."""
    index = router.link_lookup(ifname=card.port)[0]
    router.link("set", index=index, state="up")
    router.addr("add", index=index, address=card.gateway, prefixlen=32)
    router.addr("add", index=index, address=card.gateway_v6, prefixlen=128, flags=NODAD)
    hops = {4: f"169.254.9.{card.port[-1]}", 6: f"fe80::9:{card.port[-1]}"}
    for hop in hops.values():
        router.neigh("add", dst=hop, lladdr=card.mac, ifindex=index, state="permanent")
    for destination in (card.behind, card.behind_v6):
        version = ip_network(destination).version
        router.route("add", dst=destination, gateway=hops[version], oif=index, flags=["onlink"])


LOCAL_TABLE = 255
SCOPE_LINK = 253
FE80 = "fe80::"


def _address(one: Any) -> str:
    return f"{one.get('address')}/{one['prefixlen']} dev {one['index']} scope {one['scope']}"


def _from_kernel(one: Any) -> bool:
    """Local and multicast routes, and the link-local prefix: they come and go with links and addresses."""
    return bool(one.get("table") == LOCAL_TABLE or one["type"] != 1 or str(one.get("dst")) == FE80)


def _route(one: Any) -> str:
    wide = "::/0" if one["family"] == 10 else "0.0.0.0/0"
    destination = f"{one.get('dst')}/{one['dst_len']}" if one.get("dst") else wide
    gateway = f" via {one.get('gateway')}" if one.get("gateway") else ""
    return f"{destination}{gateway} dev {one.get('oif')} table {one.get('table')}"


def _rule(one: Any) -> str:
    source = f"{one.get('src')}/{one['src_len']}" if one.get("src") else "all"
    to = f" to {one.get('dst')}/{one['dst_len']}" if one.get("dst") else ""
    family = "v6" if one["family"] == 10 else "v4"
    return f"{family} {one.get('priority') or 0}: from {source}{to} lookup {one.get('table')}"


def _neighbour(one: Any) -> str:
    return f"{one.get('dst')} lladdr {one.get('lladdr')} dev {one['ifindex']}"
