"""What the stack carries alone, past the checks of what pods may send: services, node ports, two interfaces.

The fast path is off, so every packet of a pod passes the strict reverse path filter and the guard's rules.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from datapath.pod.names import host_link_name
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, OUTSIDE, OUTSIDE_V6, Address, Card, witness
from tests.netns.fastpath.conversation import Place, converse
from tests.netns.fastpath.node import FAR, FAR_V6, FastNode
from tests.netns.fastpath.test_stack import HOSTS, NODE_PORT, PORT, TARGET, VIPS, dnat, install

FARS: dict[int, Address] = {4: FAR, 6: FAR_V6}
OUTSIDES: dict[int, Address] = {4: OUTSIDE, 6: OUTSIDE_V6}

pytestmark = [
    pytest.mark.parametrize("version", [4, 6]),
    pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"]),
]


@pytest.fixture
def node(lasting_node: FastNode) -> Iterator[FastNode]:
    yield lasting_node
    lasting_node.clear()


@pytest.fixture(autouse=True)
def _off(node: FastNode) -> Iterator[None]:
    node.fast.switch(False)
    yield
    counted = {str(one.reason): one.packets for one in node.mode.guard.drops() if one.packets}
    assert node.mode.guard.lacking == ""
    assert not counted, "nothing honest was refused"


@pytest.mark.parametrize("card", [ENI1, ENI2], ids=["same eni", "another eni"])
def test_service_with_a_backend_here(
    node: FastNode, version: int, kind: socket.SocketKind, card: Card
) -> None:
    client, backend = node.pod(ENI1), node.pod(card)
    install(node, dnat(VIPS[version], PORT, backend.address(version)))
    called = Place(client.netns, VIPS[version], PORT)
    place = Place(backend.netns, backend.address(version), TARGET)
    assert converse(client.netns, called, place, kind=kind) == str(client.address(version))


def test_service_with_a_backend_elsewhere(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    client = node.pod(ENI1)
    install(node, dnat(VIPS[version], PORT, FARS[version]))
    called = Place(client.netns, VIPS[version], PORT)
    seen = converse(client.netns, called, Place(node.far, FARS[version], TARGET), kind=kind)
    assert seen == str(client.address(version))


def test_service_that_leads_back_to_the_pod(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    pod = node.pod(ENI1)
    install(node, dnat(VIPS[version], PORT, pod.address(version), mark=True))
    called = Place(pod.netns, VIPS[version], PORT)
    place = Place(pod.netns, pod.address(version), TARGET)
    assert converse(pod.netns, called, place, kind=kind) != str(pod.address(version))


@pytest.mark.parametrize("policy", ["local", "cluster"])
def test_node_port_and_host_port(node: FastNode, version: int, kind: socket.SocketKind, policy: str) -> None:
    backend = node.pod(ENI2)
    install(node, dnat(HOSTS[version], NODE_PORT, backend.address(version), mark=policy == "cluster"))
    called = Place(node.far, HOSTS[version], NODE_PORT)
    seen = converse(node.far, called, Place(backend.netns, backend.address(version), TARGET), kind=kind)
    assert (seen == str(FARS[version])) is (policy == "local")


def test_node_port_from_a_pod(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    client, backend = node.pod(ENI1), node.pod(ENI1)
    install(node, dnat(HOSTS[version], NODE_PORT, backend.address(version)))
    called = Place(client.netns, HOSTS[version], NODE_PORT)
    place = Place(backend.netns, backend.address(version), TARGET)
    assert converse(client.netns, called, place, kind=kind) == str(client.address(version))


def test_probe_and_answer_of_the_node(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    pod = node.pod(ENI2)
    place = Place(pod.netns, pod.address(version), TARGET)
    assert converse(node.world.node, place, place, kind=kind) == str(HOSTS[version])
    host = Place(node.world.node, HOSTS[version], TARGET)
    assert converse(pod.netns, host, host, kind=kind) == str(pod.address(version))


def test_two_interfaces_of_one_pod(node: FastNode, version: int, kind: socket.SocketKind) -> None:
    """Each has its own addresses, link and ENI, and answers by its own link, as the pod routes by source."""
    del kind
    pod = node.pod(ENI1)
    second = node.world.endpoint(ENI2, host_link=host_link_name("default", "twice", "net1"))
    second = replace(second, ifname="net1", container_id=pod.endpoint.container_id, default_route=False)
    node.mode.setup(second, pod.netns)
    address = second.ipv4 if version == 4 else second.ipv6
    assert address is not None
    assert exchange(node.world.node, pod.netns, pod.address(version)) == str(HOSTS[version])
    assert exchange(pod.netns, node.world.router, OUTSIDES[version]) == str(pod.address(version))
    family, gateway = (socket.AF_INET, "169.254.1.1") if version == 4 else (socket.AF_INET6, "fe80::1")
    with witness(pod.netns) as inside:
        (net1,) = inside.link_lookup(ifname="net1")
        wide = "0.0.0.0/0" if version == 4 else "::/0"
        flags = {"flags": ["onlink"]} if version == 4 else {}
        inside.route("add", dst=wide, gateway=gateway, oif=net1, table=100, family=family, **flags)
        inside.rule("add", src=str(address), src_len=address.max_prefixlen, table=100, family=family)
    other = node.pod(ENI2)
    assert exchange(other.netns, pod.netns, address) == str(other.address(version))
    assert exchange(node.far, pod.netns, address) == str(FARS[version])
