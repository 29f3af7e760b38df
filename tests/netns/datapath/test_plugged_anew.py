"""An ENI whose link is another one now, or has another MAC: found by its MAC each time."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import index_of, running
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, OUTSIDE, OUTSIDE_V6, World, _build_port, witness


def plug_anew(world: World) -> None:
    """Detached and attached again: its link goes, and one with its MAC comes."""
    with witness(world.node) as node, witness(world.router) as router:
        node.link("del", index=index_of(world, "eni1"))
        peer: dict[str, Any] = {
            "ifname": ENI1.port,
            "address": "ee:ff:ff:ff:ff:f1",
            "net_ns_fd": world.router,
        }
        node.link("add", ifname="eni7", kind="veth", address=ENI1.mac, peer=peer)
        _build_port(router, ENI1)


def test_its_pods_go_by_the_new_link(world: World, mode: NodeDatapath) -> None:
    endpoint, pod = running(world, mode)
    before = index_of(world, "eni1")
    mode.react()
    plug_anew(world)
    assert mode.react().repair, "the kernel tells of it"
    mode.repair([endpoint])
    assert mode.repair([endpoint]) == ()
    assert mode.check(endpoint, pod) == ()
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    assert exchange(pod, world.router, OUTSIDE_V6) == str(endpoint.ipv6)
    with witness(world.node) as reader:
        rules = [*reader.get_rules(family=2), *reader.get_rules(family=10)]
        left = [*reader.get_routes(table=1000 + before, family=2), *reader.get_routes(table=1000 + before)]
    assert not [one for one in rules if one.get("table") == 1000 + before]
    assert left == []
    assert {one.get("iifname") for one in rules if one["action"] == 7} == {"eni2", "eni7"}


def test_an_add_before_its_event_was_read_succeeds(world: World, mode: NodeDatapath) -> None:
    running(world, mode)
    plug_anew(world)
    endpoint, pod = running(world, mode)
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_a_mac_that_somebody_changed_is_put_back(world: World, mode: NodeDatapath) -> None:
    endpoint, pod = running(world, mode)
    mode.react()
    with witness(world.node) as reader:
        reader.link("set", index=index_of(world, "eni1"), address="02:00:00:00:00:78")
    assert mode.react().repair
    assert [one.what for one in mode.repair([endpoint])] == [f"link eni1 of ENI {ENI1.mac} MAC {ENI1.mac}"]
    assert mode.repair([endpoint]) == ()
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_a_link_that_is_not_known_to_be_the_eni_is_told_and_left(world: World, mode: NodeDatapath) -> None:
    """Another device by the ENI's number and name, which never had our routes: a card that was exchanged."""
    endpoint, _ = running(world, mode)
    index = index_of(world, "eni1")
    with witness(world.node) as reader:
        reader.flush_routes(table=1000 + index, family=2)
        reader.flush_routes(table=1000 + index, family=10)
        reader.link("set", index=index, address="02:00:00:00:00:78")
    mode.repair([endpoint])
    (told,) = mode.foreign
    assert told.what == f"link eni1 (number {index}) that had the MAC of ENI {ENI1.mac}"
    with witness(world.node) as reader:
        (link,) = reader.get_links(index)
    assert link.get("address") == "02:00:00:00:00:78"


def test_another_agent_starts_on_the_new_link(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    plug_anew(world)
    with closing(NodeDatapath(world.node)) as later:
        assert later.live([]) == {}
        later.repair([])
    mode.repair([endpoint])
    assert mode.repair([endpoint]) == ()


def test_an_eni_whose_link_went_is_no_disorder_until_another_device_has_its_name(
    world: World, mode: NodeDatapath
) -> None:
    """One that is given back has no link for seconds before the cloud says that it is done.

    A rule about its name would end the packets of the next device that is called so.
    """
    with witness(world.node) as node:
        node.link("del", index=index_of(world, "eni2"))
    assert [one.what for one in mode.repair([])] == []
    with witness(world.node) as node:
        node.link("add", ifname="eni2", kind="veth", peer="other0")
    told = {one.what for one in mode.repair([]) if one.what.startswith("rule 1024")}
    assert told == {f"rule 1024: from all iif eni2 unreachable{family}" for family in ("", " (IPv6)")}
    with witness(world.node) as reader:
        rules = [*reader.get_rules(family=2), *reader.get_rules(family=10)]
    assert {one.get("iifname") for one in rules if one["action"] == 7} == {"eni1"}
    mode.forget_uplink(ENI2.mac)
    assert mode.repair([]) == ()
