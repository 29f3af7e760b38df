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


def test_status_that_lags_is_asked_for_again(node: Bench) -> None:
    """The only call that is repeated while the cloud takes its time; nothing else is done twice."""
    node.lab.cloud.set_delays(attach=1000)
    node.start()
    spent(node)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(node.pod, "first")
        until(node.lab.cloud.calls, lambda calls: calls.get("DescribeNetworkInterfaces", 0) > 2)
        node.lab.cloud.advance(1000)
        adding.result()
    calls = spent(node)
    assert calls.pop("DescribeNetworkInterfaces") > 2
    assert calls == {k: v for k, v in FIRST_POD.items() if k != "DescribeNetworkInterfaces"}


def test_idle_hour_costs_nothing(node: Bench) -> None:
    """Minute by minute: the clock goes on when the watch has read metadata, and looked at the kernel."""
    node.start()
    node.pod("only")
    spent(node)

    def reads() -> int:
        return sum(node.lab.cloud.metadata_calls().values())

    def reads_a_second_later() -> int:
        node.advance(1)  # a jump that came while the watch was at work moved the end of its next sleep
        return reads()

    for _ in range(HOUR // WATCH):
        before = reads()
        node.advance(WATCH - 1)
        until(reads_a_second_later, partial(lt, before))
    assert spent(node) == {}
    assert_agree(node.lab, node.node)
