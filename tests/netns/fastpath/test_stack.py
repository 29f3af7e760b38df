"""What the host's stack translates keeps working with the fast path on: rules as kube-proxy writes them.

Each case is tried by TCP and UDP in both families, with kube-proxy's drop of packets that conntrack finds
invalid, so that half a flow on the fast path would show.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from datapath import namespace
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, OUTSIDE, OUTSIDE_V6, Address
from tests.netns.fastpath.conversation import Place, converse
from tests.netns.fastpath.node import FAR, FAR_V6, FastNode

VIPS: dict[int, Address] = {4: IPv4Address("172.21.0.10"), 6: IPv6Address("fd00:21::a")}
FARS: dict[int, Address] = {4: FAR, 6: FAR_V6}
HOSTS: dict[int, Address] = {4: HOST, 6: HOST_V6}
OUTSIDES: dict[int, Address] = {4: OUTSIDE, 6: OUTSIDE_V6}
SERVICE = (ip_network("172.21.0.0/20"), ip_network("fd00:21::/112"))
PORT, TARGET, NODE_PORT = 80, 8080, 30080

pytestmark = [
    pytest.mark.parametrize("version", [4, 6]),
    pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"]),
]

RULES = """
table inet kube-proxy {{
    chain services {{ {services} }}
    chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
    chain output {{ type nat hook output priority -100; jump services; }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        meta mark & 0x4000 == 0x4000 masquerade fully-random
        {masquerade}
    }}
    chain forward {{ type filter hook forward priority filter; ct state invalid counter drop; }}
}}
"""


@pytest.fixture
def node(lasting_node: FastNode) -> Iterator[FastNode]:
    yield lasting_node
    lasting_node.clear()


def install(node: FastNode, services: str = "", masquerade: str = "") -> None:
    with namespace.entered(node.world.node):
        text = RULES.format(services=services, masquerade=masquerade)
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    node.fast.set_stack_prefixes(service=SERVICE, node=(HOST, HOST_V6))


def dnat(address: Address, port: int, to: Address, *, mark: bool = False) -> str:
    family = "ip" if address.version == 4 else "ip6"
    target = f"{to}:{TARGET}" if to.version == 4 else f"[{to}]:{TARGET}"
    masquerade = "meta mark set mark or 0x4000 " if mark else ""
    match = f"{family} daddr {address} meta l4proto {{ tcp, udp }} th dport {port}"
    return f"{match} {masquerade}dnat {family} to {target};"


def test_cluster_ip_with_a_backend_here(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    client, backend = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, backend.address(version)))
    called = Place(client.netns, VIPS[version], PORT)
    with node.counting("stack_flow", "stack_service") as grown:
        seen = converse(
            client.netns, called, Place(backend.netns, backend.address(version), TARGET), kind=kind
        )
    assert seen == str(client.address(version))
    assert grown["stack_flow"] >= 3
    assert grown["stack_service"] >= 3


def test_cluster_ip_with_datagrams_in_fragments(
    node: FastNode, version: int, kind: socket.SocketKind
) -> None:
    client, backend = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, backend.address(version)))
    called = Place(client.netns, VIPS[version], PORT)
    server = Place(backend.netns, backend.address(version), TARGET)
    assert converse(client.netns, called, server, kind=kind, size=5120) == str(client.address(version))


def test_cluster_ip_with_a_backend_elsewhere(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    client = node.pod(ENI1)
    install(node, dnat(VIPS[version], PORT, FARS[version]))
    called = Place(client.netns, VIPS[version], PORT)
    with node.counting("stack_flow") as grown:
        seen = converse(client.netns, called, Place(node.far, FARS[version], TARGET), kind=kind)
    assert seen == str(client.address(version))
    assert grown["stack_flow"] >= 3


def test_cluster_ip_that_leads_back_to_the_pod_itself(
    node: FastNode, version: int, kind: socket.SocketKind
) -> None:
    pod = node.pod(ENI1)
    install(node, dnat(VIPS[version], PORT, pod.address(version), mark=True))
    called = Place(pod.netns, VIPS[version], PORT)
    seen = converse(pod.netns, called, Place(pod.netns, pod.address(version), TARGET), kind=kind)
    assert seen != str(pod.address(version)), "masqueraded, or it would answer past the stack"


@pytest.mark.parametrize("policy", ["local", "cluster"])
def test_node_port(node: FastNode, version: int, kind: socket.SocketKind, policy: str) -> None:
    """hostPort is the same to the packets: the node's address and a port, led to a pod."""
    backend = node.pod(ENI2)
    install(node, dnat(HOSTS[version], NODE_PORT, backend.address(version), mark=policy == "cluster"))
    called = Place(node.far, HOSTS[version], NODE_PORT)
    with node.counting("stack_flow") as grown:
        seen = converse(node.far, called, Place(backend.netns, backend.address(version), TARGET), kind=kind)
    if policy == "local":
        assert seen == str(FARS[version])
        assert grown["stack_flow"] >= 3
    else:
        assert seen != str(FARS[version])


def test_node_port_from_a_pod_of_the_node(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    client, backend = node.pod(ENI1), node.pod(ENI1)
    install(node, dnat(HOSTS[version], NODE_PORT, backend.address(version)))
    called = Place(client.netns, HOSTS[version], NODE_PORT)
    seen = converse(client.netns, called, Place(backend.netns, backend.address(version), TARGET), kind=kind)
    assert seen == str(client.address(version))


def test_masquerade_to_the_outside(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    pod, family = node.pod(ENI1), "ip" if version == 4 else "ip6"
    outside = OUTSIDES[version]
    install(node, masquerade=f"{family} daddr {outside} {family} saddr {pod.address(version)} masquerade")
    node.fast.set_stack_prefixes(host_cidrs=[ip_network(outside)], node=(HOST, HOST_V6))
    called = Place(pod.netns, outside, TARGET)
    seen = converse(pod.netns, called, Place(node.world.router, outside, TARGET), kind=kind)
    assert seen == str(HOSTS[version])


def test_the_host_itself_and_a_pod(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    """A probe of kubelet's, and a pod that calls the node."""
    pod = node.pod(ENI2)
    install(node)
    place = Place(pod.netns, pod.address(version), TARGET)
    assert converse(node.world.node, place, place, kind=kind) == str(HOSTS[version])
    host = Place(node.world.node, HOSTS[version], TARGET)
    assert converse(pod.netns, host, host, kind=kind) == str(pod.address(version))


def test_direct_flows_pass_beside_the_rules(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    client, server = node.pod(ENI1), node.pod(ENI2)
    install(node, dnat(VIPS[version], PORT, server.address(version)))
    place = Place(server.netns, server.address(version), TARGET)
    with node.counting("fast_local") as grown:
        converse(client.netns, place, place, kind=kind, size=1024)
    assert grown["forwarded"] == 0
    assert grown["fast_local"] >= 7
