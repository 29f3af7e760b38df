"""How many calls the cloud gets: the account's limits per minute are shared by every node of a cluster.

In IPv4: 1 for the first start, 4 for the first pod, at most 2 for ten more whether they come one by one or at
once, 1 for a restart, 0 while nothing happens. Metadata reads are free: the service is the node's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import lt

import pytest

from lab.client import Lab
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, settled, until

FIRST_POD = {
    "DescribeVSwitches": 1,
    "CreateNetworkInterface": 1,
    "AttachNetworkInterface": 1,
    "DescribeNetworkInterfaces": 1,
}
HOUR = 3600
WATCH = 60


@pytest.fixture(params=["ipv4", "dual"])
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """As shipped: five idle addresses at most. Counted from before its first start.

    The cloud says InUse when the device is there. Where it says so later it is asked again, see below.
    """
    lab.cloud.set_delays(attach=0.05, device=0.05, metadata=0.05)
    with bench(lab, ip_stack=request.param, max_pool_size=5, ip_pool_sync_period="120s") as made:
        lab.cloud.reset_calls()
        yield made


def spent(made: Bench) -> dict[str, int]:
    """Calls since the last look, once nothing is under way."""
    settled(made.node)
    calls = made.lab.cloud.calls()
    made.lab.cloud.reset_calls()
    return calls


def test_calls_of_a_nodes_life(node: Bench) -> None:
    node.start()
    assert spent(node) == {"DescribeInstanceTypes": 1}
    dual = node.pod("first").ipv6 is not None
    assert spent(node) == FIRST_POD, "the same in dual stack: Create brings both families"
    growth = (
        {"AssignPrivateIpAddresses": 1, "AssignIpv6Addresses": 1} if dual else {"AssignPrivateIpAddresses": 1}
    )
    pods = [node.pod(f"one-by-one-{i}") for i in range(10)]
    assert spent(node) == growth
    node.node.stop_agent()
    node.start()
    assert spent(node) == {"DescribeNetworkInterfaces": 1}
    node.pod("after-the-restart")
    assert spent(node) == {}, "it comes from the pool that the restart found"
    for pod in pods[:5]:
        node.lab.delete_pod(pod)
    assert spent(node) == {}, "a pod that goes costs nothing"
    assert_agree(node.lab, node.node)


def test_ten_pods_at_once(node: Bench) -> None:
    node.start()
    node.pod("first")
    spent(node)
    with ThreadPoolExecutor(10) as pool:
        pods = [f.result() for f in [pool.submit(node.pod, f"at-once-{i}") for i in range(10)]]
    calls = spent(node)
    rounds = calls.pop("AssignPrivateIpAddresses")
    assert rounds <= 2
    assert calls == ({"AssignIpv6Addresses": rounds} if pods[0].ipv6 else {})
    assert_agree(node.lab, node.node)


def test_status_that_lags_is_asked_for_again_and_ever_more_slowly(node: Bench) -> None:
    """Half a second behind the device: asked for at once, after 50, 75, 113, 169 ms and so on."""
    node.lab.cloud.set_delays(attach=0.55)
    node.start()
    spent(node)
    node.pod("first")
    calls = spent(node)
    assert 2 <= calls.pop("DescribeNetworkInterfaces") <= 7
    assert calls == {k: v for k, v in FIRST_POD.items() if k != "DescribeNetworkInterfaces"}


def test_idle_hour_costs_nothing(node: Bench) -> None:
    """Minute by minute: each time the watch has read metadata before the clock goes on."""
    node.start()
    node.pod("only")
    spent(node)

    def reads() -> int:
        return sum(node.lab.cloud.metadata_calls().values())

    for _ in range(HOUR // WATCH):
        before = reads()
        node.advance(WATCH)
        until(reads, partial(lt, before))
    assert spent(node) == {}
    assert_agree(node.lab, node.node)
