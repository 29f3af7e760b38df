"""What the kernel knows of a gateway's MAC, and that it finds out when it is asked to."""

from __future__ import annotations

import errno
import time
from ipaddress import IPv4Address, IPv6Address

import pytest

from datapath.errors import KernelError
from datapath.netlink import link, neighbour
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.socket import Socket
from tests.netns.datapath.world import ENI1, Address, World, witness
from tests.pace import patience

GATEWAYS: dict[int, Address] = {4: IPv4Address(ENI1.gateway), 6: IPv6Address(ENI1.gateway_v6)}
NOBODY: dict[int, Address] = {4: IPv4Address("10.0.0.77"), 6: IPv6Address("2001:db8:10:a::77")}
ROUTERS_MAC = "ee:ff:ff:ff:ff:f1"
OTHER_MAC = "ee:ff:ff:ff:ff:42"
PATIENCE = patience(5.0)

pytestmark = [pytest.mark.usefixtures("mode"), pytest.mark.parametrize("version", [4, 6])]


def index_of(world: World) -> int:
    with Socket(world.node) as socket:
        found = link.find(socket, ENI1.name)
    assert found is not None
    return found.index


def learned(socket: Socket, address: Address, index: int) -> str | None:
    """As soon as it is known; None if it does not become so in time."""
    deadline = time.monotonic() + PATIENCE
    while (found := neighbour.mac_of(socket, address, index)) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


def test_the_kernel_is_asked_and_finds_out(world: World, version: int) -> None:
    index = index_of(world)
    with Socket(world.node) as socket:
        assert neighbour.mac_of(socket, GATEWAYS[version], index) is None, "nobody wanted it yet"
        for _ in range(2):
            neighbour.ask(socket, GATEWAYS[version], index)
            assert learned(socket, GATEWAYS[version], index) == ROUTERS_MAC
    with witness(world.node) as reader:
        (theirs,) = reader.get_neighbours(dst=str(GATEWAYS[version]), ifindex=index)
    assert theirs.get("lladdr") == ROUTERS_MAC


def test_asking_leaves_what_is_for_good(world: World, version: int) -> None:
    index = index_of(world)
    with Socket(world.node) as socket:
        socket.one(neighbour.add(Neighbour(GATEWAYS[version], OTHER_MAC, index)))
        assert neighbour.ask(socket, GATEWAYS[version], index) == OTHER_MAC
        assert [one.mac for one in neighbour.list_permanent(socket, index)] == [OTHER_MAC]


def test_whom_nobody_is_has_no_mac(world: World, version: int) -> None:
    index = index_of(world)
    with Socket(world.node) as socket:
        assert neighbour.ask(socket, NOBODY[version], index) is None, "asked for, and not known"
        assert neighbour.mac_of(socket, GATEWAYS[version], 4242) is None, "there is no such link"
        with pytest.raises(KernelError, match="ask for neighbour") as caught:
            neighbour.ask(socket, NOBODY[version], 4242)
    assert caught.value.errno == errno.ENODEV


def test_a_neighbour_that_was_lost_is_asked_for_anew(world: World, version: int) -> None:
    index = index_of(world)
    with Socket(world.node) as socket:
        neighbour.ask(socket, GATEWAYS[version], index)
        assert learned(socket, GATEWAYS[version], index) == ROUTERS_MAC
        socket.one(neighbour.delete(Neighbour(GATEWAYS[version], ROUTERS_MAC, index)))
        assert neighbour.mac_of(socket, GATEWAYS[version], index) is None
        neighbour.ask(socket, GATEWAYS[version], index)
        assert learned(socket, GATEWAYS[version], index) == ROUTERS_MAC
