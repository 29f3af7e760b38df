"""What a pod with root may try on a node without eBPF.

Each attack is followed by something honest by the same way, so that no test waits for what must not come.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from datapath import namespace, sysctl
from datapath.endpoint import AppliedVeth, Endpoint
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.frames import (
    BROADCAST,
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    NS,
    RA,
    arp,
    checksum,
    ethernet,
    group_mac,
    heard,
    icmp6,
    raw,
    solicitation,
    udp,
)
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    HOST,
    HOST_V6,
    OUTSIDE,
    OUTSIDE_V6,
    Address,
    World,
    veth,
    witness,
)

VERSIONS = pytest.mark.parametrize("version", [4, 6])
GATEWAY, GATEWAY_V6 = IPv4Address("169.254.1.1"), IPv6Address("fe80::1")
FORGED: dict[int, tuple[Address, ...]] = {
    4: tuple(map(IPv4Address, (HOST, OUTSIDE, "100.100.100.200", "172.21.0.1", "127.0.0.1", "169.254.1.1"))),
    6: tuple(
        map(IPv6Address, (HOST_V6, OUTSIDE_V6, "fd00:21::1", "2001:db8:dead::1", "fe80::bad", "fe80::1"))
    ),
}
TAGS = pytest.mark.parametrize("tags", [0, 1, 2], ids=["untagged", "vid0", "vid0-twice"])
PORT = 4242
FLOOD = 1200
"""More than gc_thresh3 of the kernel's own settings, 1024."""


@dataclass(frozen=True, slots=True)
class Pod:
    netns: int
    endpoint: Endpoint
    applied: AppliedVeth

    def address(self, version: int) -> Address:
        found = self.endpoint.ipv4 if version == 4 else self.endpoint.ipv6
        assert found is not None
        return found

    def frame(self, packet: bytes, *, tags: int = 0) -> bytes:
        """As the pod's stack would send the packet to its gateway."""
        kind = ETH_IP if packet[0] >> 4 == 4 else ETH_IPV6
        return ethernet(self.applied.host_mac, self.applied.pod_mac, kind, packet, tags=tags)

    def ask(self, sender: Address, sender_mac: str = "") -> bytes:
        """A frame that asks for the gateway, in the name of ``sender``."""
        mine = sender_mac or self.applied.pod_mac
        if isinstance(sender, IPv4Address):
            return ethernet(BROADCAST, mine, ETH_ARP, arp(mine, sender, GATEWAY))
        return ethernet(group_mac(GATEWAY_V6), mine, ETH_IPV6, solicitation(sender, mine, GATEWAY_V6))


@pytest.fixture
def pods(world: World, mode: NodeDatapath) -> tuple[Pod, Pod, Pod]:
    """Attacker, the neighbour that is faked, and who is attacked."""
    made = []
    for card in (ENI1, ENI1, ENI2):
        endpoint, netns = world.endpoint(card), world.namespace()
        made.append(Pod(netns, endpoint, veth(mode.setup(endpoint, netns))))
    return made[0], made[1], made[2]


@pytest.fixture(params=["nft", "routes alone"])
def checked_by(request: pytest.FixtureRequest, mode: NodeDatapath) -> str:
    """With the guard's table, or on a kernel that does not take it."""
    assert mode.guard.lacking == ""
    if request.param == "routes alone":
        mode.guard.remove()
    return str(request.param)


def senders_seen(listener: socket.socket, version: int, last: Address) -> set[Address]:
    """Sources of what came to PORT, up to the datagram of ``last``, which must come."""
    found: set[Address] = set()
    start, length = (26, 4) if version == 4 else (22, 16)
    made = IPv4Address if version == 4 else IPv6Address

    def is_mark(frame: bytes) -> bool:
        return frame.endswith(b"mark") and struct.pack("!H", PORT) in frame

    while last not in found:
        frame = heard(listener, is_mark)
        assert frame, "even the honest datagram did not come"
        found.add(made(frame[start : start + length]))
    return found


def dropped(mode: NodeDatapath) -> dict[str, int]:
    return {str(one.reason): one.packets for one in mode.guard.drops() if one.packets}


@VERSIONS
@TAGS
def test_forged_sources_reach_no_pod(
    pods: tuple[Pod, Pod, Pod], mode: NodeDatapath, version: int, tags: int
) -> None:
    attacker, neighbour, victim = pods
    own = attacker.address(version)
    forged = (neighbour.address(version), victim.address(version), *FORGED[version])
    with raw(victim.netns) as listener, raw(attacker.netns) as sender:
        for source in (*forged, own):
            sender.send(attacker.frame(udp(source, victim.address(version), PORT), tags=tags))
        assert senders_seen(listener, version, own) == {own}
    assert dropped(mode) == {"source": len(forged)}


@VERSIONS
@TAGS
def test_forged_sources_do_not_leave_the_node(
    world: World, pods: tuple[Pod, Pod, Pod], version: int, tags: int
) -> None:
    attacker, neighbour, _ = pods
    own = attacker.address(version)
    outside: Address = OUTSIDE if version == 4 else OUTSIDE_V6
    assert exchange(attacker.netns, world.router, outside) == str(own), "and the gateway is known"
    with raw(world.router, ENI1.port) as listener, raw(attacker.netns) as sender:
        for source in (neighbour.address(version), *FORGED[version], own):
            sender.send(attacker.frame(udp(source, outside, PORT), tags=tags))
        assert senders_seen(listener, version, own) == {own}


def test_without_nft_ipv4_is_refused_by_the_routes(mode: NodeDatapath, pods: tuple[Pod, Pod, Pod]) -> None:
    mode.guard.remove()
    attacker, neighbour, victim = pods
    own = attacker.address(4)
    with raw(victim.netns) as listener, raw(attacker.netns) as sender:
        for source in (neighbour.address(4), *FORGED[4], own):
            sender.send(attacker.frame(udp(source, victim.address(4), PORT), tags=1))
        assert senders_seen(listener, 4, own) == {own}


@VERSIONS
def test_asked_for_its_gateway_the_node_answers(
    checked_by: str, pods: tuple[Pod, Pod, Pod], version: int
) -> None:
    """A guest with a stack of its own has no permanent neighbour."""
    del checked_by
    guest = pods[0]
    with raw(guest.netns) as wire:
        wire.send(guest.ask(guest.address(version)))
        answer = heard(wire, lambda frame: answers(frame, version))
    mac = bytes.fromhex(guest.applied.host_mac.replace(":", ""))
    assert answer[6:12] == mac
    assert mac in answer[14:], "in the body as well"


def test_a_guest_is_answered_where_links_answer_for_themselves_only(
    world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod]
) -> None:
    """kube-proxy's IPVS sets arp_ignore for ``strictARP``. Pods that are there wait for the next repair."""
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/all/arp_ignore", "1")
    endpoints = [one.endpoint for one in pods]
    assert {one.what for one in mode.repair(endpoints)} == {
        f"address {GATEWAY}/32 dev {one.host_link}" for one in endpoints
    }
    endpoint, netns = world.endpoint(ENI1), world.namespace()
    later = Pod(netns, endpoint, veth(mode.setup(endpoint, netns)))
    for guest in (pods[0], later):
        with raw(guest.netns) as wire:
            wire.send(guest.ask(guest.address(4)))
            assert heard(wire, lambda frame: answers(frame, 4))
    assert exchange(world.node, later.netns, later.address(4)) == str(HOST), "not from the gateway's address"
    assert mode.check(later.endpoint, later.netns) == ()
    assert mode.repair([*endpoints, later.endpoint]) == ()


def answers(frame: bytes, version: int) -> bool:
    if version == 4:
        return frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == GATEWAY.packed
    return frame[54:55] == b"\x88" and frame[62:78] == GATEWAY_V6.packed


@VERSIONS
def test_a_guest_without_permanent_neighbours_talks(
    world: World, pods: tuple[Pod, Pod, Pod], version: int
) -> None:
    guest, _, other = pods
    with witness(guest.netns) as inside:
        for one in inside.get_neighbours():
            if one["state"] & 0x80:
                inside.neigh("del", dst=one.get("dst"), ifindex=one["ifindex"], family=one["family"])
    outside: Address = OUTSIDE if version == 4 else OUTSIDE_V6
    assert exchange(guest.netns, world.router, outside) == str(guest.address(version))
    assert exchange(other.netns, guest.netns, guest.address(version)) == str(other.address(version))


def test_the_gateways_address_takes_no_calls(
    world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod]
) -> None:
    """What listens at every address of the node is not to be had by one that no policy knows."""
    attacker = pods[0]
    with namespace.entered(world.node):
        listener = socket.create_server(("0.0.0.0", PORT))
    with listener:
        for target in (GATEWAY, HOST):
            with namespace.entered(attacker.netns):
                caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with caller:
                caller.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    caller.connect((str(target), PORT))
                if target == HOST:
                    listener.settimeout(5.0)
                    accepted, _ = listener.accept()
                    assert accepted.getsockname()[0] == str(HOST)
                    accepted.close()
    assert dropped(mode)["gateway"] >= 1


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_the_nodes_link_local_addresses_take_no_calls(
    world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod], kind: socket.SocketKind
) -> None:
    """As the gateway's of IPv4: fe80::1, and the one that the kernel gave to the host link."""
    attacker = pods[0]
    with witness(world.node) as reader:
        rows = reader.get_addr(family=socket.AF_INET6, index=attacker.applied.host_ifindex)
        targets = [one.get("address") for one in rows if one.get("address").startswith("fe80:")]
    assert str(GATEWAY_V6) in targets
    with ExitStack() as stack:
        with namespace.entered(world.node):
            listener = stack.enter_context(socket.socket(socket.AF_INET6, kind))
        listener.bind(("::", PORT))
        listener.settimeout(5.0)
        if kind == socket.SOCK_STREAM:
            listener.listen()
        for target in (*targets, str(HOST_V6)):
            with namespace.entered(attacker.netns):
                caller = stack.enter_context(socket.socket(socket.AF_INET6, kind))
                link = socket.if_nametoindex("eth0")
            caller.bind((str(attacker.address(6)), 0))
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect((target, PORT, 0, link if target != str(HOST_V6) else 0))
                caller.send(target.encode())
        if kind == socket.SOCK_STREAM:
            accepted, _ = listener.accept()
            stack.enter_context(accepted)
            assert accepted.getsockname()[0] == str(HOST_V6)
        else:
            assert listener.recv(100) == str(HOST_V6).encode()
    assert dropped(mode)["gateway"] >= 1, "the kernel's own may be tentative still"


@VERSIONS
@pytest.mark.parametrize("protocol", [4, 41, 47, 97, 137], ids=["ipip", "6in4", "gre", "etherip", "mpls"])
def test_the_node_unpacks_no_tunnel_of_a_pods(
    mode: NodeDatapath, pods: tuple[Pod, Pod, Pod], version: int, protocol: int
) -> None:
    """What is inside came from anybody; without eBPF nobody else looks. To another pod it is its matter."""
    attacker, _, target = pods
    for to in (HOST if version == 4 else HOST_V6, target.address(version)):
        packet = bytearray(udp(attacker.address(version), to, PORT))
        packet[9 if version == 4 else 6] = protocol
        if version == 4:
            packet[10:12] = b"\0\0"
            packet[10:12] = checksum(bytes(packet[:20])).to_bytes(2, "big")
        with raw(target.netns) as listener, raw(attacker.netns) as sender:
            sender.send(attacker.frame(bytes(packet)))
            if to == target.address(version):
                assert heard(listener, lambda frame: frame.endswith(b"mark"))
    assert dropped(mode) == {"tunnel": 1}


def test_what_the_node_calls_from_the_gateways_address_is_answered(world: World, mode: NodeDatapath) -> None:
    """It does so for a pod with extra routes, whose host link has the address."""
    extra = (ip_network("192.168.0.0/16"),)
    endpoint, netns = world.endpoint(ENI1, extra_routes=extra), world.namespace()
    mode.setup(endpoint, netns)
    assert endpoint.ipv4 is not None
    exchange(world.node, netns, endpoint.ipv4)
    with namespace.entered(netns):
        listener = socket.create_server((str(endpoint.ipv4), PORT))
    with namespace.entered(world.node):
        caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, caller:
        caller.settimeout(5.0)
        caller.connect((str(endpoint.ipv4), PORT))
    assert dropped(mode) == {}


def neighbours(world: World, attacker: Pod, version: int) -> list[str]:
    """What the node has learned on the attacker's link."""
    family = 2 if version == 4 else 10
    with witness(world.node) as reader:
        found = reader.get_neighbours(family=family, ifindex=attacker.applied.host_ifindex)
    # NOARP is multicast's.
    return [one.get("dst") for one in found if not one["state"] & 0xC0]


@pytest.mark.usefixtures("neighbour_table")
def test_invented_arp_senders_make_no_neighbours(
    checked_by: str, world: World, pods: tuple[Pod, Pod, Pod]
) -> None:
    del checked_by
    attacker = pods[0]
    with raw(attacker.netns) as wire:
        for number in range(FLOOD):
            sender = IPv4Address(int(IPv4Address("10.0.0.0")) + number)
            mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            wire.send(attacker.ask(sender, mac))
            claim = arp(mac, sender, sender, reply=bool(number & 1))
            wire.send(ethernet(BROADCAST, mac, ETH_ARP, claim))
        wire.send(attacker.ask(attacker.address(4)))
        assert heard(wire, lambda frame: answers(frame, 4) and frame[38:42] == attacker.address(4).packed)
    assert neighbours(world, attacker, 4) == []


@pytest.mark.parametrize("network", ["2001:db8:10:a:1::1:0", "fe80::1:0"])
@pytest.mark.usefixtures("neighbour_table")
def test_invented_nd_senders_make_few_neighbours(
    world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod], network: str
) -> None:
    attacker = pods[0]
    with raw(attacker.netns) as wire:
        for number in range(FLOOD):
            sender = IPv6Address(int(IPv6Address(network)) + number)
            mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            wire.send(attacker.ask(sender, mac))
            option = b"\1\1" + bytes.fromhex(mac.replace(":", ""))
            solicited = icmp6(sender, IPv6Address("ff02::2"), 133, bytes(4) + option)
            wire.send(ethernet("33:33:00:00:00:02", mac, ETH_IPV6, solicited))
        wire.send(attacker.ask(attacker.address(6)))
        assert heard(wire, lambda f: answers(f, 6) and f[38:54] == attacker.address(6).packed)
    assert len(neighbours(world, attacker, 6)) <= 24
    assert sum(dropped(mode).values()) >= 2 * FLOOD - 30


def test_a_pods_claims_change_no_neighbour(checked_by: str, world: World, pods: tuple[Pod, Pod, Pod]) -> None:
    """Nor do those about the pod itself: its entry is permanent."""
    del checked_by
    attacker, neighbour, _ = pods
    before = world.snapshot(world.node)["neighbours"]
    false = "02:bb:bb:bb:bb:bb"
    with raw(attacker.netns) as wire:
        for version in (4, 6):
            for claimed in (attacker.address(version), neighbour.address(version)):
                wire.send(attacker.ask(claimed, false))
        for claimed in (attacker.address(4), neighbour.address(4), HOST):
            wire.send(ethernet(BROADCAST, false, ETH_ARP, arp(false, claimed, claimed, reply=True)))
        wire.send(attacker.ask(attacker.address(4)))
        assert heard(wire, lambda frame: answers(frame, 4) and frame[:6] == attacker_mac(attacker))
    assert world.snapshot(world.node)["neighbours"] == before


def attacker_mac(attacker: Pod) -> bytes:
    return bytes.fromhex(attacker.applied.pod_mac.replace(":", ""))


def test_loose_source_route_is_refused(world: World, pods: tuple[Pod, Pod, Pod]) -> None:
    """Though the operator allows it for the node's other links."""
    attacker, _, victim = pods
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/all/accept_source_route", "1")
    own = attacker.address(4)
    route = b"\x83\x07\x04" + victim.address(4).packed + b"\0"
    with raw(victim.netns) as listener, raw(attacker.netns) as sender:
        sender.send(attacker.frame(udp(own, HOST, PORT, options=route)))
        sender.send(attacker.frame(udp(own, victim.address(4), PORT)))
        frame = heard(listener, lambda found: found.endswith(b"mark"))
    assert frame[14] == 0x45, "the first that comes has no options"


def test_a_pod_is_nobodys_router(world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod]) -> None:
    """Though the node takes routers' words on its links, as one does whose eth0 gets its route so."""
    attacker = pods[0]
    link = attacker.endpoint.host_link
    with namespace.entered(world.node):
        sysctl.write(f"net/ipv6/conf/{link}/accept_ra", "2")
    before = world.snapshot(world.node)["routes"]
    source = IPv6Address("fe80::aa")
    told = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    with raw(attacker.netns) as wire:
        advertised = icmp6(source, IPv6Address("ff02::1"), RA, told)
        wire.send(ethernet("33:33:00:00:00:01", attacker.applied.pod_mac, ETH_IPV6, advertised))
        wire.send(attacker.ask(attacker.address(6)))
        assert heard(wire, lambda frame: answers(frame, 6))
    assert world.snapshot(world.node)["routes"] == before
    assert dropped(mode) == {"router": 1}


def test_the_nodes_loopback_is_out_of_reach(
    world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod]
) -> None:
    """Though kube-proxy has set route_localnet, for node ports at 127.0.0.1."""
    attacker = pods[0]
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/all/route_localnet", "1")
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with witness(world.node) as reader:
        reader.link("set", index=1, state="up")
    with listener, raw(attacker.netns) as sender:
        listener.bind(("0.0.0.0", PORT))
        listener.settimeout(5.0)
        for target in (IPv4Address("127.0.0.1"), HOST):
            sender.send(attacker.frame(udp(attacker.address(4), target, PORT)))
        listener.recv(64)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(64)
    assert dropped(mode) == {"loopback": 1}


def test_a_loosened_link_is_shut_again_at_once(
    world: World, mode: NodeDatapath, pods: tuple[Pod, Pod, Pod]
) -> None:
    """systemd-udevd does it to each new link, and the reverse path filter is what holds ARP's senders."""
    link = pods[0].endpoint.host_link
    assert mode.react().mended == (), "what we set ourselves is no news"
    setting = f"net/ipv4/conf/{link}/rp_filter"
    for value in ("2", "0"):
        with namespace.entered(world.node):
            sysctl.write(setting, value)
            sysctl.write("net/ipv4/conf/eth0/rp_filter", value)
        (told,) = mode.react().mended
        assert told.what.startswith(f"link {link}")
        with namespace.entered(world.node):
            assert sysctl.read(setting) == "1"
            assert sysctl.read("net/ipv4/conf/eth0/rp_filter") == value, "others' links are others'"
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/conf/all/rp_filter", "2")
    assert [one.what for one in mode.react().mended] == ["sysctl net/ipv4/conf/all/rp_filter"]
    assert mode.react().mended == ()


@VERSIONS
def test_duplicate_detection_goes_on(mode: NodeDatapath, pods: tuple[Pod, Pod, Pod], version: int) -> None:
    """What a guest asks before it uses its address is let through, and answered by nobody."""
    guest = pods[0]
    own = guest.address(version)
    nothing: Address = IPv4Address(0) if version == 4 else IPv6Address(0)
    with raw(guest.netns) as wire:
        if isinstance(own, IPv4Address):
            probe = arp(guest.applied.pod_mac, nothing, own)
            wire.send(ethernet(BROADCAST, guest.applied.pod_mac, ETH_ARP, probe))
        else:
            assert isinstance(nothing, IPv6Address)
            asked = solicitation(nothing, guest.applied.pod_mac, own)
            wire.send(ethernet(group_mac(own), guest.applied.pod_mac, ETH_IPV6, asked))
        wire.send(guest.ask(own))
        first = heard(wire, lambda frame: frame[12:14] == b"\x08\x06" or frame[54:55] in b"\x87\x88")
    assert answers(first, version), "the first answer is about the gateway"
    assert dropped(mode) == {}
    assert NS == 135
