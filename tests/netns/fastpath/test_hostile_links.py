"""A pod with root takes its link down, or away, or changes its MAC: what is for it is lost with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from datapath.acceleration.carriers import CarrierWatch
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, witness
from tests.netns.fastpath.node import FastNode, Tenant, until
from tests.netns.fastpath.test_edges import udp_socket

VERSIONS = (4, 6)
WAYS = ("local", "vpc")

pytestmark = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def node(lasting_node: FastNode) -> Iterator[FastNode]:
    yield lasting_node
    lasting_node.clear()


@pytest.fixture
def watch(node: FastNode) -> Iterator[CarrierWatch]:
    with closing(CarrierWatch(node.world.node)) as made:
        yield made


def follow(node: FastNode, watch: CarrierWatch, tenant: Tenant, *, up: bool) -> None:
    """As the agent does: going down is told, coming up is asked for."""
    index = tenant.applied.host_ifindex

    def known() -> bool:
        found = watch.of([index]) if up else watch.changes()
        for one, carrier in found.items():
            node.fast.set_pod_down(one, not carrier)
        return found.get(index) is up

    until(known, f"the kernel does not say that link {index} is {'up' if up else 'down'}")


def set_link(tenant: Tenant, **changes: str) -> None:
    with witness(tenant.netns) as reader:
        reader.link("set", index=reader.link_lookup(ifname="eth0")[0], **changes)


def send(node: FastNode, way: str, source: Tenant, target: Tenant, version: int) -> None:
    netns = source.netns if way == "local" else node.far
    with udp_socket(netns, version) as one:
        one.sendto(b"anyone?", (str(target.address(version)), 9))


@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_is_down(node: FastNode, watch: CarrierWatch, version: int, way: str) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    exchange(node.far, other.netns, other.address(version))
    set_link(other, state="down")
    follow(node, watch, other, up=False)
    with node.counting("drop_pod_down", "fast_local", "fast_pod") as grown:
        send(node, way, one, other, version)
        until(lambda: node.count("drop_pod_down") > 0, "nobody says that it was lost")
    assert grown == {"drop_pod_down": 1, "fast_local": 0, "fast_pod": 0, "forwarded": 0}


def test_a_link_that_is_gone(node: FastNode, watch: CarrierWatch, version: int) -> None:
    """With its namespace: the rows are there until the runtime's DEL, or the next repair."""
    one, other = node.pod(ENI1), node.pod(ENI2)
    with witness(other.netns) as reader:
        reader.link("del", index=reader.link_lookup(ifname="eth0")[0])
    follow(node, watch, other, up=False)
    with node.counting("drop_pod_down", "fast_local") as grown:
        send(node, "local", one, other, version)
    assert grown == {"drop_pod_down": 1, "fast_local": 0, "forwarded": 0}


@pytest.mark.parametrize("told", [True, False], ids=["agent", "no-agent"])
def test_a_link_that_is_up_again(node: FastNode, watch: CarrierWatch, version: int, told: bool) -> None:
    """Its own first frame is enough, should the agent not be there to hear of it."""
    one, other = node.pod(ENI1), node.pod(ENI2)
    set_link(other, state="down")
    follow(node, watch, other, up=False)
    index = other.applied.host_ifindex
    assert not node.fast.set_pod_down(index, True), "no news"
    set_link(other, state="up")
    # Its routes went with the link; they come back by a repeated ADD.
    node.mode.setup(other.endpoint, other.netns)
    if told:
        follow(node, watch, other, up=True)
    with node.counting("fast_local", "drop_pod_down") as grown:
        send(node, "local", other, one, version)
        exchange(one.netns, other.netns, other.address(version))
    assert grown["drop_pod_down"] == 0
    assert grown["fast_local"] >= 3


def test_new_pods_wake_nobody(node: FastNode, watch: CarrierWatch, version: int) -> None:
    """Nor do the links of those that go, but for their end; the cost of an ADD would be told by them all."""
    made = [node.pod(card) for card in (ENI1, ENI2)]
    exchange(made[0].netns, made[1].netns, made[1].address(version))
    indices = [one.applied.host_ifindex for one in made]
    assert watch.of(indices) == dict.fromkeys(indices, True)
    assert watch.changes() == {}
    node.mode.teardown(made[0].endpoint, made[0].netns)
    node.mode.flush()
    assert watch.changes() == {indices[0]: False}
    assert watch.of(indices) == {indices[0]: None, indices[1]: True}


@pytest.mark.parametrize("way", WAYS)
def test_a_link_with_another_mac(node: FastNode, version: int, way: str) -> None:
    """What is for it arrives: nobody looks at the MAC behind the redirect. What it sends is dropped."""
    one, other = node.pod(ENI1), node.pod(ENI2)
    set_link(other, address="06:00:00:00:00:42")
    with udp_socket(other.netns, version) as ear:
        ear.bind((str(other.address(version)), 9))
        send(node, way, one, other, version)
        _, origin = ear.recvfrom(100)
        with node.counting("drop_src_mac") as grown:
            ear.sendto(b"I am", origin)
            until(lambda: node.count("drop_src_mac") > 0, "its answer has a reason")
    assert grown["drop_src_mac"] >= 1
