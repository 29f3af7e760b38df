"""Many pods at once: what counts as Ready, what is said of a pool, and the figures that come of it."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from lab.kubernetes import stand_in
from perf import burst, pods_table, remains
from perf.burst import Moments
from perf.pods import Round


def event(kind: str = "MODIFIED", **conditions: str) -> dict[str, Any]:
    told = [{"type": name, "status": status} for name, status in conditions.items()]
    return {"type": kind, "object": {"metadata": {"name": "a"}, "status": {"conditions": told}}}


def moments(first: float) -> Moments:
    """A hundred pods, Ready after ``first`` and every second from there, gone after half of that."""
    ready = tuple(first + i for i in range(100))
    return Moments(ready, tuple(figure / 2 for figure in ready))


def test_a_pod_is_ready_by_its_condition_alone() -> None:
    assert burst.is_ready(event(PodScheduled="True", Ready="True"))
    assert not burst.is_ready(event(ContainersReady="True", Ready="False"))
    assert not burst.is_ready({"type": "ADDED", "object": {"metadata": {"name": "a"}}})


def test_a_pod_is_gone_when_the_watch_says_so_and_not_when_it_is_asked_to_go() -> None:
    assert burst.is_gone(event("DELETED"))
    assert not burst.is_gone(event("MODIFIED"))


def test_a_pod_goes_to_its_node_by_the_scheduler() -> None:
    spec = burst.pod("node2-7", "node2")["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "node2"}
    assert "nodeName" not in spec


@pytest.mark.parametrize(("q", "figure"), [(0.5, 2.0), (0.95, 4.0), (1.0, 4.0), (0.25, 1.0)])
def test_a_quantile_is_one_of_the_figures(q: float, figure: float) -> None:
    assert pods_table.quantile(q)((1.0, 2.0, 3.0, 4.0)) == figure


def test_the_ratio_is_of_each_round_and_the_median_of_them() -> None:
    mine = [Round(moments(f), (10.0, 4.0)) for f in (1.0, 11.0, 3.0)]
    other = [Round(moments(f), (20.0, 2.0)) for f in (1.0, 1.0, 1.0)]
    rows = {line[:24].strip(): line[24:] for line in pods_table.lines(mine, other, pods=100)}
    assert rows["create to Ready, p95"].split()[:4] == ["97.00", "s", "95.00", "s"]
    assert rows["create to Ready, p95"].split()[4] == f"{97 / 95:.3f}"
    assert rows["delete to gone, p50"].split()[0] == "26.00"
    assert rows["CPU of nodes, creation"].split()[4] == "0.500"
    assert rows["CPU of nodes, deletion"].split()[4] == "2.000"


def test_calls_are_per_pod_and_what_is_left_is_named() -> None:
    calls = ({"AssignPrivateIpAddresses": 20}, {"UnassignPrivateIpAddresses": 10})
    mine = [Round(moments(1.0), (1.0, 1.0), calls), Round(moments(1.0), (1.0, 1.0), calls)]
    other = [Round(moments(1.0), (1.0, 1.0))] * 2
    text = "\n".join(pods_table.lines(mine, other, pods=200))
    assert "cloud calls to create: 0.100 per pod (AssignPrivateIpAddresses 20)" in text
    assert "cloud calls to delete: 0.050 per pod (UnassignPrivateIpAddresses 10)" in text
    assert text.endswith("left behind: nothing")
    mine[1] = Round(moments(1.0), (1.0, 1.0), left=("node1: +1 rules",))
    assert "\n".join(pods_table.lines(mine, other, pods=200)).endswith("left behind: node1: +1 rules")


def pool(**changes: int) -> dict[str, Any]:
    counts = {"in_use": 0, "cooling": 0, "releasing": 0, "idle": 5, **changes}
    return {"pool": counts, "operations": [], "settled": True}


def test_a_pool_is_drained_when_nothing_is_in_use_and_the_idle_are_few() -> None:
    assert remains.undrained(pool(), 5) == ""
    assert remains.undrained(pool(in_use=1), 5) == "1 in_use"
    assert remains.undrained(pool(cooling=3, idle=9), 5) == "3 cooling, 9 idle, of which 5 are kept"
    assert remains.undrained({**pool(), "settled": False}, 5) == "a call of the cloud under way"


def test_the_stand_in_gives_addresses_of_the_range_that_it_is_told() -> None:
    (plugin,) = stand_in.chain(IPv4Network("10.244.3.0/24"))["plugins"]
    assert (plugin["type"], plugin["ipam"]["type"]) == stand_in.PLUGINS
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24"}]]
