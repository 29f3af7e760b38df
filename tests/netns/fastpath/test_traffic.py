"""Real packets take the fast path, in both families, and arrive as they would have by routing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, Card
from tests.netns.fastpath.conversation import transfer
from tests.netns.fastpath.node import FAR, FAR_V6, FastNode

VERSIONS = (4, 6)


@pytest.fixture
def node(lasting_node: FastNode) -> Iterator[FastNode]:
    yield lasting_node
    lasting_node.clear()


@pytest.mark.parametrize("version", VERSIONS)
def test_pods_of_a_node_talk_past_the_stack(node: FastNode, version: int) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    exchange(one.netns, other.netns, other.address(version))  # neighbours and tables are warm now
    before = node.fast.endpoint_counters()
    with node.counting("fast_local") as grown:
        for _ in range(10):
            origin = exchange(one.netns, other.netns, other.address(version))
            assert origin == str(one.address(version))
    assert grown == {"fast_local": 20, "forwarded": 0}
    after = node.fast.endpoint_counters()
    for tenant in (one, other):
        index = tenant.applied.host_ifindex
        assert after[index].fast_out_packets - before[index].fast_out_packets == 10
        assert after[index].fast_in_packets - before[index].fast_in_packets == 10


@pytest.mark.parametrize("known", [True, False], ids=["mac-known", "mac-by-kernel"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("card", [ENI1, ENI2], ids=["eni1", "eni2"])
def test_pod_and_another_host_of_the_vpc(node: FastNode, card: Card, version: int, known: bool) -> None:
    node.put_eni(card, known=known)
    pod, far = node.pod(card), FAR if version == 4 else FAR_V6
    exchange(pod.netns, node.far, far)
    before = node.world.received_by_router()
    leaving = "fast_eni" if known else "fast_neigh"
    with node.counting(leaving, "fast_pod", "seen_fast", "seen_new") as grown:
        for _ in range(30):
            assert exchange(pod.netns, node.far, far) == str(pod.address(version))
    assert grown == {leaving: 30, "fast_pod": 30, "seen_fast": 30, "seen_new": 0, "forwarded": 0}
    after = node.world.received_by_router()
    for port, count in after.items():
        assert (count - before[port] >= 30) == (port in (card.port, "port9")), (port, before, after)


@pytest.mark.parametrize("version", VERSIONS)
def test_from_the_vpc_into_a_pod(node: FastNode, version: int) -> None:
    pod = node.pod(ENI2)
    with node.counting("fast_pod", "fast_eni") as grown:
        exchange(node.far, pod.netns, pod.address(version))
    assert grown == {"fast_pod": 1, "fast_eni": 1, "forwarded": 0}


@pytest.mark.parametrize("version", VERSIONS)
def test_bulk_on_the_node(node: FastNode, version: int) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    with node.counting("fast_local") as grown:
        transfer(one.netns, other.netns, other.address(version))
    assert grown["forwarded"] == 0
    assert grown["fast_local"] > 100


@pytest.mark.parametrize("version", VERSIONS)
def test_bulk_from_the_vpc(node: FastNode, version: int) -> None:
    pod = node.pod(ENI1)
    with node.counting("fast_pod") as grown:
        transfer(node.far, pod.netns, pod.address(version))
    assert grown["forwarded"] == 0
    assert grown["fast_pod"] > 100


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_arrive_by_the_stack(node: FastNode, version: int) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    with node.counting("stack_fragment") as grown:
        assert exchange(one.netns, other.netns, other.address(version), size=4000) == str(
            one.address(version)
        )
        exchange(one.netns, node.far, FAR if version == 4 else FAR_V6, size=4000)
    # Three each way beside, and two ways beyond, where eni_ingress sees them as well.
    assert grown["stack_fragment"] == 12
    assert grown["forwarded"] > 0
