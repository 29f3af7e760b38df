"""What others have beside ours, and may keep; and what of theirs must stop nobody."""

from __future__ import annotations

import pytest

from datapath import namespace, sysctl
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import index_of, running
from tests.netns.datapath.world import ENI1, HOST, HOST_V6, World, eni_link, shared, witness


def test_a_table_of_somebody_elses_stays_when_an_eni_is_prepared(world: World) -> None:
    """1000 is the number before all ENIs' tables: no link has index 0, and others may have that table."""
    with witness(world.node) as reader:
        reader.route("add", dst="192.0.2.0/24", oif=index_of(world, "eth0"), table=1000)
        reader.rule("add", priority=2048, src="192.0.2.7/32", table=1000)
    mode = NodeDatapath(world.node)
    mode.prepare((HOST, HOST_V6))
    mode.prepare_uplink(shared(eni_link(ENI1)))
    mode.close()
    now = world.snapshot(world.node)
    assert any("192.0.2.0/24" in one and "table 1000" in one for one in now["routes"])
    assert any("192.0.2.7/32" in one for one in now["rules"])


@pytest.mark.parametrize(("family", "source"), [(2, "192.0.2.7"), (10, "2001:db8:77::7")])
def test_a_rule_whose_network_has_host_bits_stops_nobody(
    world: World, mode: NodeDatapath, family: int, source: str
) -> None:
    """The kernel keeps what it is told: `ip rule add from 192.0.2.7/24`."""
    endpoint, pod = running(world, mode)
    with witness(world.node) as reader:
        reader.rule("add", family=family, priority=30000, src=source, src_len=24, table=254)
        reader.rule("add", family=family, priority=30001, dst=source, dst_len=24, table=254)
        reader.flush_routes(table=512, family=2)
    theirs = len(world.snapshot(world.node)["rules"])
    assert [one.what for one in mode.repair([endpoint])] == [
        f"route {endpoint.ipv4}/32 dev {endpoint.host_link} table 512"
    ]
    assert mode.check(endpoint, pod) == ()
    running(world, mode)
    assert len(world.snapshot(world.node)["rules"]) == theirs + 2
    assert mode.react() is not None


def test_a_table_that_others_ask_before_ours_may_be_filled_later(world: World, mode: NodeDatapath) -> None:
    """The rule leads nowhere at first, and nobody looks at its table."""
    endpoint, _ = running(world, mode)
    with witness(world.node) as reader:
        reader.rule("add", priority=100, table=78)
    for _ in range(2):
        assert mode.repair([endpoint]) == ()
        assert mode.foreign == ()
    with witness(world.node) as reader:
        reader.route("add", dst="0.0.0.0/0", gateway="10.0.0.253", oif=index_of(world, "eth0"), table=78)
    assert mode.repair([endpoint]) == ()
    (told,) = mode.foreign
    assert "of table 78" in told.found
    with witness(world.node) as reader:
        reader.flush_routes(table=78, family=2)
    mode.repair([endpoint])
    assert mode.foreign == ()


def test_the_way_that_arp_is_answered_may_change_while_all_else_stands(
    world: World, mode: NodeDatapath
) -> None:
    """kube-proxy is told strictARP on a node at rest: each host link needs the gateway's address by then."""
    endpoint, pod = running(world, mode)
    assert mode.repair([endpoint]) == ()
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/all/arp_ignore", "1")
    assert [one.what for one in mode.repair([endpoint])] == [
        f"address 169.254.1.1/32 dev {endpoint.host_link}"
    ]
    assert mode.repair([endpoint]) == ()
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/all/arp_ignore", "0")
    assert len(mode.repair([endpoint])) == 1
    assert mode.check(endpoint, pod) == ()
