"""A hand that keeps routes to our pods in the main table, as Felix does without a network of its own.

These routes harm nobody: the pods' table is asked before the main one. So there is no fight about them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyroute2.netlink.exceptions import NetlinkError

from datapath.endpoint import Endpoint
from datapath.modes.policy_route.patience import FREELY
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import running
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, OUTSIDE, World, witness

BIRD, FELIX = 12, 80


def _put(world: World, endpoint: Endpoint, proto: int, *, address: str = "") -> None:
    """The pod's address, or another, by its own link, as Felix writes it."""
    with witness(world.node) as reader:
        (link,) = reader.link_lookup(ifname=endpoint.host_link)
        reader.route("replace", dst=f"{address or endpoint.ipv4}/32", oif=link, scope=253, proto=proto)


def _in_main(world: World, endpoint: Endpoint) -> list[str]:
    routes = world.snapshot(world.node)["routes"]
    return [one for one in routes if str(endpoint.ipv4) in one and one.endswith("table 254")]


def test_routes_that_come_back_are_left_and_told_once_with_whose_they_are(
    world: World, mode: NodeDatapath
) -> None:
    endpoint, pod = running(world, mode)
    other, _ = running(world, mode)
    rounds = 0
    for _ in range(3 * FREELY):
        for one in (endpoint, other):
            _put(world, one, FELIX)
        rounds += bool(mode.repair([endpoint, other]))
    assert rounds <= 1, "upstream's own are taken off once: nobody puts those back"
    assert len(_in_main(world, endpoint)) == 1
    (told,) = mode.foreign
    assert told.what == "routes to pods in the main table"
    assert "protocol 80" in told.found
    assert "2 routes" in told.found
    assert str(endpoint.ipv4) in told.found or str(other.ipv4) in told.found
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    with witness(world.node) as reader:
        for one in (endpoint, other):
            reader.route("del", dst=f"{one.ipv4}/32", table=254, scope=253, proto=FELIX)
    assert mode.repair([endpoint, other]) == ()
    assert mode.foreign == ()


def test_a_route_to_another_address_by_a_pods_link_is_no_pod(world: World, mode: NodeDatapath) -> None:
    """Felix is late with its removal: the address is not in use for that, nor the pod without a record."""
    endpoint, _ = running(world, mode)
    _put(world, endpoint, FELIX, address="10.0.0.222")
    (carrier,) = mode.carriers()
    assert carrier.addresses == frozenset(endpoint.addresses())
    late, pod = world.endpoint(ENI1), world.namespace()
    _put(world, endpoint, FELIX, address=str(late.ipv4))
    mode.setup(late, pod)
    assert exchange(pod, world.router, OUTSIDE) == str(late.ipv4)
    assert exchange(world.router, pod, late.addresses()[0])


@contextmanager
def _writer(world: World, endpoint: Endpoint) -> Iterator[list[int]]:
    """Takes the route off and puts it back without a pause. How often, as the only item."""
    done, count = threading.Event(), [0]

    def write() -> None:
        with witness(world.node) as reader:
            (link,) = reader.link_lookup(ifname=endpoint.host_link)
            route = {"dst": f"{endpoint.ipv4}/32", "oif": link, "scope": 253, "proto": BIRD, "table": 254}
            while not done.is_set():
                reader.route("replace", **route)
                with suppress(NetlinkError):  # taken off by us
                    reader.route("del", **route)
                count[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield count
    finally:
        done.set()
        thread.join()


def test_a_writer_in_a_loop_costs_the_pod_nothing(world: World, mode: NodeDatapath) -> None:
    endpoint, pod = running(world, mode)
    done = 0
    with _writer(world, endpoint) as count:
        while count[0] < 500:
            assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
            assert exchange(world.router, pod, endpoint.addresses()[0])
            done += len(mode.repair([endpoint]))
            assert {a for c in mode.carriers() for a in c.addresses} == set(endpoint.addresses())
    assert done <= 1
    assert mode.check(endpoint, pod) == ()
