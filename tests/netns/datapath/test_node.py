"""Node and ENI verbs: what they make, twice, and what they leave of others'."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from datapath import namespace, sysctl
from datapath.errors import KernelError
from datapath.netlink.monitor import Event, LinkMonitor
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, OUTSIDE, World, eni_link, shared, witness


def index_of(world: World, name: str) -> int:
    with witness(world.node) as reader:
        found = reader.link_lookup(ifname=name)
    return int(found[0])


def eni_rules(world: World, name: str) -> set[int]:
    """Families that have a rule about what comes in by the link of that name."""
    with witness(world.node) as reader:
        rules = [*reader.get_rules(family=2), *reader.get_rules(family=10)]
    return {one["family"] for one in rules if one.get("iifname") == name and one["action"] == 7}


def test_prepare_is_idempotent(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    mode.prepare((HOST, HOST_V6))
    assert mode.prepare_uplink(shared(eni_link(ENI1))) == index_of(world, "eni1")
    assert world.snapshot(world.node) == before


def test_sysctls(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint()
    mode.setup(endpoint, pod)
    with namespace.entered(world.node):
        for name in ("all", "default", "eth0", "eni1", endpoint.host_link):
            strict = "1" if name == endpoint.host_link else "0"
            assert sysctl.read(f"net/ipv4/conf/{name}/rp_filter") == strict, name
            assert sysctl.read(f"net/ipv4/conf/{name}/forwarding") == "1", name
            assert sysctl.read(f"net/ipv6/conf/{name}/forwarding") == "1", name
        assert sysctl.read("net/ipv6/conf/eni1/accept_ra") == "0"
        for name in ("accept_source_route", "accept_redirects", "proxy_arp", "arp_accept"):
            assert sysctl.read(f"net/ipv4/conf/{endpoint.host_link}/{name}") == "0", name
        assert sysctl.read(f"net/ipv4/conf/{endpoint.host_link}/drop_gratuitous_arp") == "1"


def test_existing_links_are_relaxed(world: World) -> None:
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/eth0/rp_filter", "1")
        assert sysctl.read("net/ipv4/conf/eth0/forwarding") == "0"
    mode = NodeDatapath(world.node)
    mode.prepare((HOST,))
    mode.close()
    with namespace.entered(world.node):
        assert sysctl.read("net/ipv4/conf/eth0/rp_filter") == "0"
        assert sysctl.read("net/ipv4/conf/eth0/forwarding") == "1"
        assert sysctl.read("net/ipv6/conf/eth0/forwarding") == "0"


def test_eni_objects(world: World, mode: NodeDatapath) -> None:
    index = index_of(world, "eni2")
    found = world.snapshot(world.node)
    assert {one for one in found["routes"] if f"table {1000 + index}" in one} == {
        f"0.0.0.0/0 via {ENI2.gateway} dev {index} table {1000 + index}",
        f"{ENI2.gateway_v6}/128 dev {index} table {1000 + index}",
        f"::/0 via {ENI2.gateway_v6} dev {index} table {1000 + index}",
    }
    assert {one for one in found["addresses"] if f"dev {index} " in one} == {
        f"{HOST}/32 dev {index} scope 0",
        f"{HOST_V6}/128 dev {index} scope 0",
    }
    del mode


def test_eni_mtu(world: World, mode: NodeDatapath) -> None:
    index = mode.prepare_uplink(shared(replace(eni_link(ENI1), mtu=1400)))
    with witness(world.node) as reader:
        (link,) = reader.get_links(index)
    assert link.get("mtu") == 1400


def test_unknown_mac(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    with pytest.raises(KernelError, match="00:16:3e:77:77:77") as caught:
        mode.prepare_uplink(shared(replace(eni_link(ENI1), mac="00:16:3e:77:77:77")))
    assert caught.value.errno == errno.ENODEV
    assert world.snapshot(world.node) == before


def test_a_pods_link_is_no_eni(world: World, mode: NodeDatapath) -> None:
    """Upstream's ERDMA pods and IPvlan slaves carry an ENI's MAC."""
    mac = "00:16:3e:66:66:66"
    with witness(world.node) as reader:
        reader.link("add", ifname="cali0123456789a", kind="veth", address=mac, peer="other")
    with pytest.raises(KernelError):
        mode.prepare_uplink(shared(replace(eni_link(ENI1), mac=mac)))


def test_forget_uplink(world: World, mode: NodeDatapath) -> None:
    index = index_of(world, "eni1")
    kept = world.endpoint(ENI2)
    kept_pod = world.namespace()
    mode.setup(kept, kept_pod)
    mode.setup(world.endpoint(ENI1), world.namespace())
    with witness(world.node) as reader:
        reader.rule("add", priority=2048, src="10.0.0.200/32", fwmark=7, table=1000 + index)
    mode.forget_uplink(ENI1.mac)
    mode.forget_uplink(ENI1.mac)
    mode.forget_uplink("00:16:3e:77:77:77")
    found = world.snapshot(world.node)
    assert not any(f"table {1000 + index}" in one for one in found["routes"])
    # A rule that selects by more than the pod's address is an operator's.
    assert not eni_rules(world, "eni1")
    assert eni_rules(world, "eni2") == {2, 10}
    left = {one for one in found["rules"] if one.endswith(f"lookup {1000 + index}")}
    assert left == {f"v4 2048: from 10.0.0.200/32 lookup {1000 + index}"}
    assert mode.check(kept, kept_pod) == ()
    mode.prepare_uplink(shared(eni_link(ENI1)))
    pod, endpoint = world.namespace(), world.endpoint(ENI1)
    mode.setup(endpoint, pod)
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_an_eni_that_was_plugged_anew_leaves_nothing_of_the_old(world: World, mode: NodeDatapath) -> None:
    old = index_of(world, "eni2")
    with witness(world.node) as reader:
        reader.link("del", index=old)
        reader.link("add", ifname="ens9", kind="veth", address=ENI2.mac, peer={"ifname": "other"})
    new = mode.prepare_uplink(shared(eni_link(ENI2)))
    assert new != old
    with witness(world.node) as reader:
        tables = {one.get("table") for one in reader.get_routes(type=7)}
    assert 1000 + new in tables
    assert 1000 + old not in tables
    assert eni_rules(world, "ens9") == {2, 10}
    assert not eni_rules(world, "eni2")


def test_two_enis_of_one_vswitch_in_ipv6(world: World, mode: NodeDatapath) -> None:
    """eth0's prefix covers the gateway of eni1; the table must lead out by eni1 all the same."""
    assert ENI1.gateway_v6 in {str(IPv6Address(f"{HOST_V6}".rsplit("::", 1)[0] + ":ffff:ffff:ffff:fffd"))}
    pod, endpoint = world.namespace(), world.endpoint(ENI1)
    mode.setup(endpoint, pod)
    assert mode.check(endpoint, pod) == ()


def test_monitor_sees_hot_plug(world: World) -> None:
    monitor = LinkMonitor(world.node)
    try:
        assert monitor.read() == []
        mac = "00:16:3e:00:00:99"
        assert monitor.find_by_mac(mac) is None
        with witness(world.node) as reader:
            reader.link("add", ifname="eni9", kind="veth", address=mac, peer="port9")
        seen = [event for event in monitor.read() if event.link is not None and event.link.mac == mac]
        assert seen
        assert {event.event for event in seen} == {Event.CHANGED}
        found = monitor.find_by_mac(mac.upper())
        assert found is not None
        assert found.name == "eni9"
        with witness(world.node) as reader:
            reader.link("del", index=found.index)
        gone = [event.link.index for event in monitor.read() if event.event is Event.GONE and event.link]
        assert found.index in gone
    finally:
        monitor.close()


def test_monitor_tells_of_lost_events(world: World) -> None:
    monitor = LinkMonitor(world.node)
    try:
        with witness(world.node) as reader:
            (index,) = reader.link_lookup(ifname="eth0")
            for number in range(600):
                reader.link("set", index=index, ifalias=f"change {number}")
        assert any(event.event is Event.LOST for event in monitor.read())
        assert monitor.read() == []
    finally:
        monitor.close()
