"""The codec against a real kernel, with pyroute2 as the other reader."""

from __future__ import annotations

import errno
from ipaddress import ip_network
from socket import AF_INET

import pytest

from datapath.errors import KernelError
from datapath.netlink import link, neighbour, route, rule
from datapath.netlink.link import End
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from tests.netns.datapath.world import World, witness


def test_socket_stays_in_its_namespace(world: World) -> None:
    with Socket(world.node) as socket:
        assert {one.name for one in link.list_all(socket)} == {"lo", "eth0", "eni1", "eni2"}
    with Socket() as own:
        assert "eni1" not in {one.name for one in link.list_all(own)}


def test_links_as_pyroute2_sees_them(world: World) -> None:
    with Socket(world.node) as socket, witness(world.node) as reader:
        theirs = {one["index"]: one for one in reader.get_links()}
        for one in link.list_all(socket):
            other = theirs.pop(one.index)
            assert (one.name, one.mac, one.mtu) == (
                other.get("ifname"),
                other.get("address"),
                other.get("mtu"),
            )
            assert one.up == bool(other["flags"] & 1)
            assert one.lower == (other.get("link") or 0)
        assert not theirs


def test_refusal_names_object_and_reason(world: World) -> None:
    with Socket(world.node) as socket:
        index = link.find(socket, "eni1")
        assert index is not None
        astray = Route(ip_network("10.0.1.5/32"), 4242, 510, device="cali42")
        with pytest.raises(KernelError, match=r"add route: 10.0.1.5/32 dev cali42 table 510") as caught:
            socket.one(route.add(astray))
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(KernelError, match="policy validation"):
            socket.one(link.rename(index.index, "a name of too many characters"))


def test_batch_goes_on_behind_a_refusal(world: World) -> None:
    kept = Rule(AF_INET, 700, 512)
    with Socket(world.node) as socket:
        with pytest.raises(KernelError, match="dev 4242"):
            socket.transact(route.add(Route(ip_network("10.0.1.5/32"), 4242)), rule.add(kept))
        assert kept in rule.list_all(socket, AF_INET)
        socket.one(rule.add(kept))
        assert rule.list_all(socket, AF_INET).count(kept) == 1


def test_dump_larger_than_a_datagram(world: World) -> None:
    with Socket(world.node) as socket:
        eth0 = link.find(socket, "eth0")
        assert eth0 is not None
        many = [Route(ip_network((0x0B000000 + n, 32)), eth0.index, 600) for n in range(1500)]
        socket.transact(*map(route.add, many))
        assert sorted(map(str, route.list_table(socket, AF_INET, 600))) == sorted(map(str, many))
        assert route.list_table(socket, AF_INET, 601) == []


def test_look_ups_of_the_absent(world: World) -> None:
    with Socket(world.node) as socket:
        assert link.find(socket, "nobody") is None
        assert link.find(socket, 4242) is None
        assert link.find_by_mac(socket, "02:ff:ff:ff:ff:ff") is None
        assert neighbour.list_permanent(socket) == []
        socket.transact(link.delete(4242), link.delete_group(4242))


def test_veth_into_a_namespace_that_is_none(world: World) -> None:
    here, there = End("cali0", "02:00:00:00:00:01"), End("eth0", "02:00:00:00:00:02")
    with Socket(world.node) as socket, open("/dev/null", "rb") as null:
        with pytest.raises(KernelError, match="create link: veth cali0 with peer eth0"):
            socket.one(link.create_veth(here, there, netns=null.fileno(), mtu=1500))
        assert link.find(socket, "cali0") is None
