"""What others put where our objects are: taken off or told, and nobody spins over it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from datapath import namespace, sysctl
from datapath.modes.policy_route.patience import FREELY
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import index_of, running
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import (
    ENI1,
    HOST,
    HOST_V6,
    OUTSIDE,
    OUTSIDE_V6,
    World,
    eni_link,
    policy_route,
    witness,
)
from tests.pace import patience


def words(mode: NodeDatapath, *endpoints: object) -> list[str]:
    return [one.what for one in mode.repair(list(endpoints))]  # type: ignore[arg-type]


def test_an_address_that_takes_the_vswitch_is_taken_off(world: World, mode: NodeDatapath) -> None:
    """A DHCP client puts the ENI's primary address on the host: its /24 leads all of the vSwitch there."""
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    with witness(world.node) as reader:
        reader.addr("add", index=index_of(world, "eni1"), address="10.0.0.140", prefixlen=24)
        (link,) = reader.link_lookup(ifname=endpoint.host_link)
        reader.addr("add", index=link, address="10.9.9.9", prefixlen=32)
    assert words(mode, endpoint) == [
        f"address 10.0.0.140/24 dev {index_of(world, 'eni1')}",
        f"address 10.9.9.9/32 dev {link}",
    ]
    assert world.snapshot(world.node) == before
    assert words(mode, endpoint) == []
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_a_neighbour_that_nobody_asked_is_taken_off(world: World, mode: NodeDatapath) -> None:
    """A gateway by a MAC that somebody has written down cuts off the pods of that ENI, in both families."""
    endpoint, pod = running(world, mode)
    before, eni = world.snapshot(world.node), index_of(world, "eni1")
    host = index_of(world, endpoint.host_link)
    with witness(world.node) as reader:
        for index, address in ((eni, ENI1.gateway), (eni, ENI1.gateway_v6), (host, "10.9.9.9")):
            reader.neigh("replace", ifindex=index, dst=address, lladdr="02:00:00:00:00:79", state="permanent")
    with pytest.raises(TimeoutError):
        exchange(pod, world.router, OUTSIDE)
    assert words(mode, endpoint) == [
        f"neighbour {ENI1.gateway} lladdr 02:00:00:00:00:79 dev {eni}",
        f"neighbour {ENI1.gateway_v6} lladdr 02:00:00:00:00:79 dev {eni}",
        f"neighbour 10.9.9.9 lladdr 02:00:00:00:00:79 dev {host}",
    ]
    assert world.snapshot(world.node) == before
    assert words(mode, endpoint) == []
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    assert exchange(pod, world.router, OUTSIDE_V6) == str(endpoint.ipv6)


def test_a_neighbour_that_no_pod_sends_to_is_told_and_stays(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    eni = index_of(world, "eni1")
    with witness(world.node) as reader:
        reader.neigh("add", ifindex=eni, dst="10.0.0.77", lladdr="02:00:00:00:00:79", state="permanent")
    assert words(mode, endpoint) == []
    (told,) = mode.foreign
    assert told.what == "neighbour 10.0.0.77 on link eni1"
    assert "ip neigh del 10.0.0.77 dev eni1" in told.found
    with witness(world.node) as reader:
        reader.neigh("del", ifindex=eni, dst="10.0.0.77", lladdr="02:00:00:00:00:79")
    mode.repair([endpoint])
    assert mode.foreign == ()


def test_an_address_that_takes_nothing_from_a_pod_is_told_and_stays(world: World, mode: NodeDatapath) -> None:
    """An operator may want it; he is told where it is, and how it goes."""
    endpoint, _ = running(world, mode)
    with witness(world.node) as reader:
        reader.addr("add", index=index_of(world, "eni1"), address="192.168.7.1", prefixlen=24)
    assert words(mode, endpoint) == []
    (told,) = mode.foreign
    assert told.what == "address 192.168.7.1/24 on link eni1"
    assert "ip addr del 192.168.7.1/24 dev eni1" in told.found
    with witness(world.node) as reader:
        reader.addr("del", index=index_of(world, "eni1"), address="192.168.7.1", prefixlen=24)
    mode.repair([endpoint])
    assert mode.foreign == ()


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit", "throw"])
def test_foreign_routes_in_our_tables_go(world: World, mode: NodeDatapath, kind: str) -> None:
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    table = 1000 + index_of(world, "eni1")
    with witness(world.node) as reader:
        for number in (512, table):
            reader.route("add", dst="203.0.113.0/24", type=kind, table=number)
            reader.route("add", dst="2001:db8:ffff::/48", type=kind, table=number, family=10)
        reader.route("add", dst="10.0.0.0/9", oif=index_of(world, "eth0"), table=512)
    assert len(words(mode, endpoint)) == 5
    assert words(mode, endpoint) == []
    assert world.snapshot(world.node) == before
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


@pytest.mark.parametrize("kind", ["local", "broadcast", "multicast", "anycast"])
@pytest.mark.parametrize("device", ["lo", "eni1"])
def test_foreign_routes_that_end_at_the_node_go(
    world: World, mode: NodeDatapath, kind: str, device: str
) -> None:
    """What the pods send there would be the node's, as a transparent proxy's first step has it."""
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    families = {2: ["203.0.113.0/24"], 10: ["2001:db8:ffff::/48"] if kind != "broadcast" else []}
    with witness(world.node) as reader:
        for number in (512, 1000 + index_of(world, "eni1")):
            for family, destinations in families.items():
                for dst in destinations:
                    reader.route(
                        "add",
                        dst=dst,
                        type=kind,
                        oif=index_of(world, device),
                        scope=254 if family == 2 and kind != "multicast" else 0,
                        table=number,
                        family=family,
                    )
    assert len(words(mode, endpoint)) == 2 * sum(map(len, families.values()))
    assert words(mode, endpoint) == []
    assert world.snapshot(world.node) == before
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_a_foreign_route_of_some_packets_alone_goes(world: World, mode: NodeDatapath) -> None:
    """By their TOS: to another pod, and out by another link than the ENI's. Ours stand beside them."""
    endpoint, _ = running(world, mode)
    other, _ = running(world, mode)
    before = world.snapshot(world.node)
    table = 1000 + index_of(world, "eni1")
    with witness(world.node) as reader:
        for tos in (0x08, 0x10):
            behind, eth0 = index_of(world, other.host_link), index_of(world, "eth0")
            reader.route("add", dst=f"{endpoint.ipv4}/32", oif=behind, table=512, tos=tos, scope=253)
            reader.route("add", dst="0.0.0.0/0", oif=eth0, table=table, tos=tos, scope=253)
    assert len(words(mode, endpoint, other)) == 4
    assert words(mode, endpoint, other) == []
    assert world.snapshot(world.node) == before


@pytest.mark.parametrize("family", [2, 10])
def test_a_foreign_route_by_several_links_goes(world: World, mode: NodeDatapath, family: int) -> None:
    """It is more special than ours, so the pods' packets would leave by a link that is not their ENI's."""
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    eni, other = index_of(world, "eni1"), index_of(world, "eth0")
    ours = {2: "10.0.255.253", 10: "fe80::2"}[family]
    dst = {2: "203.0.113.0/24", 10: "2001:db8:ffff::/48"}[family]
    ways = [{"oif": eni, "gateway": ours, "hops": 0}, {"oif": other, "gateway": ours, "hops": 0}]
    for one in ways if family == 2 else ():
        one["flags"] = ["onlink"]
    with witness(world.node) as reader:
        reader.route("add", dst=dst, multipath=ways, table=1000 + eni, family=family)
    assert world.snapshot(world.node) != before
    assert len(words(mode, endpoint)) == 1
    assert words(mode, endpoint) == []
    assert world.snapshot(world.node) == before
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_a_rule_in_the_place_of_ours_goes_and_others_rules_stay(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    before = world.snapshot(world.node)
    with witness(world.node) as reader:
        for family, source in ((2, f"{endpoint.ipv4}/32"), (10, f"{endpoint.ipv6}/128")):
            reader.rule("add", family=family, priority=512, table=77)
            reader.rule("add", family=family, priority=1024, iifname="eni1", table=254)
            reader.rule("add", family=family, priority=2048, src=source, table=254)
    assert len(words(mode, endpoint)) == 6
    assert world.snapshot(world.node) == before
    with witness(world.node) as reader:
        reader.rule("add", priority=512, fwmark=0x77, table=77)
        reader.rule("add", priority=100, table=78)
    theirs = world.snapshot(world.node)
    assert words(mode, endpoint) == []
    assert world.snapshot(world.node) == theirs
    assert mode.foreign == (), "no packet of a pod's goes another way"


def test_a_rule_that_is_asked_before_ours_and_leads_astray_is_told(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    another, _ = running(world, mode)
    with witness(world.node) as reader:
        reader.route("add", dst="0.0.0.0/0", gateway="10.0.0.253", oif=index_of(world, "eth0"), table=78)
        reader.rule("add", priority=100, table=78)
    deadline = time.monotonic() + patience(10)
    while not any("1 more" in one.what for one in mode.foreign):
        assert words(mode, endpoint, another) == [], "links that have no carrier yet are not asked about"
        assert time.monotonic() < deadline
    (told,) = mode.foreign
    assert told.what == f"routing of {endpoint.host_link} and of 1 more"
    assert "of table 78" in told.found
    with witness(world.node) as reader:
        reader.rule("del", priority=100, table=78)
    mode.repair([endpoint, another])
    assert mode.foreign == ()


def test_the_gateway_with_another_scope_is_put_right(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    before = world.snapshot(world.node)
    with witness(world.node) as reader:
        reader.addr("del", index=1, address="169.254.1.1", prefixlen=32)
        reader.addr("add", index=1, address="169.254.1.1", prefixlen=32)
    assert words(mode, endpoint) == ["address 169.254.1.1/32 dev lo"]
    assert world.snapshot(world.node) == before


def test_settings_of_the_nodes_own_link_come_back(world: World) -> None:
    mode = NodeDatapath(world.node)
    mode.prepare((HOST, HOST_V6), home=index_of(world, "eth0"))
    names = ("net/ipv4/conf/eth0/forwarding", "net/ipv4/conf/eth0/rp_filter")
    with namespace.entered(world.node):
        sysctl.write(names[0], "0")
        sysctl.write(names[1], "1")
    assert sorted(words(mode)) == [f"sysctl {one}" for one in names]
    with namespace.entered(world.node):
        sysctl.write(names[0], "0")
    assert [one.what for one in mode.react().mended] == [f"sysctl {names[0]}"], "the kernel tells of it"
    assert mode.repair([]) == ()
    mode.close()


def test_a_routers_route_outlives_the_start_of_forwarding(world: World) -> None:
    """A node that forwards hears no router, unless accept_ra is 2; where it is 0 somebody else listens."""
    with namespace.entered(world.node):
        sysctl.write("net/ipv6/conf/eth0/accept_ra", "1")
        sysctl.write("net/ipv6/conf/eni2/accept_ra", "0")
    mode = NodeDatapath(world.node)
    mode.prepare((HOST,), home=index_of(world, "eth0"), ipv6=True)
    with namespace.entered(world.node):
        assert sysctl.read("net/ipv6/conf/eth0/accept_ra") == "2"
        assert sysctl.read("net/ipv6/conf/eni2/accept_ra") == "0"
        sysctl.write("net/ipv6/conf/eth0/accept_ra", "1")
    assert words(mode) == ["sysctl net/ipv6/conf/eth0/accept_ra"]
    mode.close()


def test_the_nodes_addresses_on_enis_follow_the_node(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    moved = IPv4Address("10.0.0.11")
    mode.host_addresses((moved, HOST_V6))
    assert f"address {moved}/32 dev eni1" in words(mode, endpoint)
    with witness(world.node) as reader:
        there = {one.get("address") for one in reader.get_addr(index=index_of(world, "eni1"), family=2)}
    assert there == {str(moved)}, "what is the node's no more is no more on its ENIs"
    assert words(mode, endpoint) == []


def test_who_undoes_it_again_and_again_is_told_and_makes_nobody_spin(
    world: World, mode: NodeDatapath
) -> None:
    endpoint, _ = running(world, mode)
    found = []
    for _ in range(2 * FREELY):
        with witness(world.node) as reader:
            reader.flush_routes(table=512, family=2)
        found += [one.found for one in mode.repair([endpoint])]
    assert len(found) == FREELY
    assert f"undone {FREELY} times by another hand" in found[-1]


def test_who_turns_forwarding_off_without_end_makes_nobody_spin(world: World, mode: NodeDatapath) -> None:
    """The kernel tells of each change, and each was put back at once."""
    endpoint, _ = running(world, mode)
    mode.react()
    name, found = "net/ipv4/conf/all/forwarding", []
    for _ in range(2 * FREELY):
        with namespace.entered(world.node):
            sysctl.write(name, "0")
        found += [one.found for one in mode.react().mended if one.what == f"sysctl {name}"]
    assert len(found) == FREELY
    assert f"undone {FREELY} times by another hand" in found[-1]
    assert mode.check(endpoint, None) is not None


def test_one_broken_eni_keeps_nobody_from_being_mended(
    world: World, mode: NodeDatapath, caplog: pytest.LogCaptureFixture
) -> None:
    """Its IPv6 gateway is refused by the kernel (multicast), and every other object is put right."""
    endpoint, pod = running(world, mode)
    broken = replace(eni_link(ENI1), gateway=IPv4Address("224.0.0.1"))
    hold = policy_route(mode)._hold  # what metadata may say at the next start
    hold.devices[ENI1.mac] = hold.devices[ENI1.mac]._replace(eni=broken)
    with witness(world.node) as reader:
        reader.flush_routes(table=512, family=2)
    with caplog.at_level(logging.WARNING):
        assert f"route {endpoint.ipv4}/32 dev {endpoint.host_link} table 512" in words(mode, endpoint)
    assert "224.0.0.1" in caplog.text
    assert pod
