"""Every object that a set-up makes, read by pyroute2, and nothing else."""

from __future__ import annotations

import socket
from ipaddress import ip_network

from datapath import namespace, sysctl
from datapath.modes.policy_route import layout
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.world import ENI1, World, veth, witness


def test_host_side(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint(ENI1)
    before = world.snapshot(world.node)
    made = veth(mode.setup(endpoint, pod))
    after = world.snapshot(world.node)
    table = 1000 + made.eni_ifindex
    host = made.host_ifindex
    assert {kind: after[kind] - before[kind] for kind in ("links", "routes", "rules", "neighbours")} == {
        "links": {endpoint.host_link},
        "routes": {
            f"{endpoint.ipv4}/32 dev {host} table 512",
            f"{endpoint.ipv6}/128 dev {host} table 512",
        },
        "rules": {
            f"v4 2048: from {endpoint.ipv4}/32 lookup {table}",
            f"v6 2048: from {endpoint.ipv6}/128 lookup {table}",
        },
        "neighbours": {
            f"{endpoint.ipv4} lladdr {made.pod_mac} dev {host}",
            f"{endpoint.ipv6} lladdr {made.pod_mac} dev {host}",
        },
    }
    assert not any(before[kind] - after[kind] for kind in before)
    with witness(world.node) as reader:
        (link,) = reader.get_links(host)
    assert link.get("ifname") == endpoint.host_link
    assert link.get("ifalias") == endpoint.container_id
    assert link.get("address") == made.host_mac
    assert link.get("operstate") == "UP"


def test_pod_side(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint(ENI1, mtu=1400)
    made = veth(mode.setup(endpoint, pod))
    with witness(pod) as reader:
        links = {one.get("ifname"): one for one in reader.get_links()}
    assert links.keys() == {"lo", "eth0"}
    assert links["lo"]["flags"] & 1
    assert links["eth0"].get("address") == made.pod_mac
    assert links["eth0"].get("mtu") == 1400
    assert links["eth0"].get("operstate") == "UP"
    index = links["eth0"]["index"]
    found = world.snapshot(pod)
    assert {one for one in found["addresses"] if " scope 0" in one and f"dev {index}" in one} == {
        f"{endpoint.ipv4}/32 dev {index} scope 0",
        f"{endpoint.ipv6}/128 dev {index} scope 0",
    }
    assert f"0.0.0.0/0 via 169.254.1.1 dev {index} table 254" in found["routes"]
    assert f"::/0 via fe80::1 dev {index} table 254" in found["routes"]
    assert found["neighbours"] == {
        f"169.254.1.1 lladdr {made.host_mac} dev {index}",
        f"fe80::1 lladdr {made.host_mac} dev {index}",
    }
    with namespace.entered(pod):
        assert sysctl.read("net/ipv6/conf/eth0/accept_ra") == "0"
        assert sysctl.read("net/ipv6/conf/eth0/accept_dad") == "0"


def test_ipv4_only(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint(ENI1, version_6=False)
    mode.setup(endpoint, pod)
    found = world.snapshot(pod)
    assert not any("::" in route for route in found["routes"])
    assert len(found["neighbours"]) == 1
    assert mode.check(endpoint, pod) == ()


def test_extra_routes_without_default(world: World, mode: NodeDatapath) -> None:
    """4.2 of upstream: the gateway becomes a real address of the host's end."""
    pod = world.namespace()
    extra = (ip_network("192.168.7.0/24"), ip_network("2001:db8:77::/48"))
    endpoint = world.endpoint(ENI1, default_route=False, extra_routes=extra)
    made = veth(mode.setup(endpoint, pod))
    with witness(pod) as reader:
        (index,) = reader.link_lookup(ifname="eth0")
    routes = world.snapshot(pod)["routes"]
    assert f"169.254.1.1/32 dev {index} table 254" in routes
    assert f"192.168.7.0/24 via 169.254.1.1 dev {index} table 254" in routes
    assert f"2001:db8:77::/48 via fe80::1 dev {index} table 254" in routes
    assert not any(route.startswith(("0.0.0.0/0", "::/0")) for route in routes)
    with witness(world.node) as reader:
        (gateway,) = reader.get_addr(index=made.host_ifindex, family=socket.AF_INET)
    assert gateway.get("address") == "169.254.1.1"
    assert mode.check(endpoint, pod) == ()


def test_node_rules(world: World, mode: NodeDatapath) -> None:
    rules = world.snapshot(world.node)["rules"]
    assert {one for one in rules if f"lookup {layout.TABLE_PODS}" in one} == {
        "v4 512: from all lookup 512",
        "v6 512: from all lookup 512",
    }
    del mode
