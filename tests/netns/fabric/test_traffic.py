"""The kernel's own stacks across the fabric: TCP with and without offloads, checksums, MTU of segments."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from lab.fabric.offload import offloads
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, A, B, Net, changed, unused, wait_for

FAMILIES = pytest.mark.parametrize("family", [4, 6])
GATEWAYS = {4: "10.0.1.253", 6: "2001:db8:10:1:ffff:ffff:ffff:fffd"}
AMOUNT = 4 << 20
IFA_F_NODAD = 2
SOL_PACKET, PACKET_VNET_HDR = 263, 15
GSO_TCPV4, GSO_TCPV6, NEEDS_CHECKSUM = 1, 4, 1


@pytest.fixture
def hosts(net: Net) -> Iterator[Net]:
    """A and B with their addresses and a default route, as any host has them; bare again afterwards."""
    for name in (A, B):
        net.set_mtu(name, 1500)
        with namespace.entered(net.namespaces[name]), IPRoute() as netlink:
            sysctl("net/ipv6/conf/eth0/disable_ipv6", 0)
            index = netlink.link_lookup(ifname="eth0")[0]
            for family, length in ((4, 24), (6, 64)):
                flags = IFA_F_NODAD if family == 6 else 0
                netlink.addr("add", index=index, address=ADDRESS[name, family], prefixlen=length, flags=flags)
                gateway = {"gateway": GATEWAYS[family], "family": FAMILY[family]}
                netlink.route("add", dst="default", oif=index, **gateway)
            wait_for(partial(receives, ADDRESS[name, 6]), f"{name} to receive by IPv6")
    yield net
    net.fabric.wire(False)
    for name in (A, B):
        with namespace.entered(net.namespaces[name]), IPRoute() as netlink:
            netlink.flush_addr(index=netlink.link_lookup(ifname="eth0")[0])
            sysctl("net/ipv6/conf/eth0/disable_ipv6", 1)


FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def receives(address: str) -> bool:
    """An address gets its local route from a worker of the kernel, some time after it was added."""
    routes = Path("/proc/thread-self/net/ipv6_route").read_text()
    return f"{IPv6Address(address).packed.hex()} 80 " in routes


def sysctl(name: str, value: int) -> None:
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(str(value))


def open_socket(net: Net, name: str, family: int, kind: socket.SocketKind) -> socket.socket:
    with namespace.entered(net.namespaces[name]):
        made = socket.socket(FAMILY[family], kind)
    made.settimeout(5)
    return made


@contextmanager
def listening(net: Net, family: int) -> Iterator[tuple[socket.socket, int]]:
    with open_socket(net, B, family, socket.SOCK_STREAM) as server:
        server.bind((ADDRESS[B, family], 0))
        server.listen()
        yield server, server.getsockname()[1]


@contextmanager
def receiving(server: socket.socket) -> Iterator[list[int]]:
    """The sizes of what one connection brings, all of them when the context has ended."""
    received: list[int] = []

    def receive() -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            while part := connection.recv(1 << 16):
                received.append(len(part))

    thread = threading.Thread(target=receive)
    thread.start()
    yield received
    thread.join()


def stream(net: Net, family: int) -> int:
    """Send AMOUNT bytes from A to B by TCP; how many arrived."""
    with listening(net, family) as (server, port), receiving(server) as received:
        with open_socket(net, A, family, socket.SOCK_STREAM) as client:
            client.connect((ADDRESS[B, family], port))
            client.sendall(bytes(AMOUNT))
    return sum(received)


@FAMILIES
def test_bulk_tcp_passes_with_frames_longer_than_the_mtu(hosts: Net, family: int) -> None:
    """With offloads on, most frames are up to 64 KiB; their segments fit, so nothing is dropped."""
    before = hosts.fabric.drops()
    with hosts.fabric.capture(A) as tap:
        assert stream(hosts, family) == AMOUNT
        assert max(len(frame.data) for frame in tap.waiting()) > 1514
    assert hosts.fabric.drops() == before


@FAMILIES
def test_on_a_wire_no_frame_is_longer_than_the_mtu(hosts: Net, family: int) -> None:
    hosts.fabric.wire(True)
    before = hosts.fabric.drops()
    with hosts.fabric.capture(A) as tap:
        assert stream(hosts, family) == AMOUNT
        assert max(len(frame.data) for frame in tap.waiting()) == 1514
    assert hosts.fabric.drops() == before


def test_wire_is_readable_at_both_ends_and_reverts(hosts: Net) -> None:
    ends = [(hosts.namespaces[A], "eth0"), (hosts.fabric.netns, hosts.fabric_name(A))]
    for on in (True, False):
        hosts.fabric.wire(on)
        for netns, device in ends:
            with namespace.entered(netns):
                assert set(offloads(device).values()) == {not on}


@FAMILIES
def test_a_wrong_checksum_reaches_the_socket_only_without_a_wire(hosts: Net, family: int) -> None:
    """What a local sender leaves to the card is believed at the other end of a veth, and so is what a
    program made of it on the way. That trap is what ``wire`` is for.
    """
    with open_socket(hosts, B, family, socket.SOCK_DGRAM) as receiver:
        receiver.bind((ADDRESS[B, family], 0))
        port = receiver.getsockname()[1]
        send_half_summed(hosts, family, port)
        assert receiver.recv(100) == b"damaged"
        hosts.fabric.wire(True)
        before = checksum_errors(hosts, family)
        send_half_summed(hosts, family, port)
        wait_for(lambda: checksum_errors(hosts, family) > before, "the kernel to count a wrong checksum")
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


def send_half_summed(net: Net, family: int, port: int) -> None:
    """A datagram whose checksum is left to the card, with a wrong sum of the pseudo-header to start from."""
    packet = f.ip(ADDRESS[A, family], ADDRESS[B, family], f.udp(unused(), port, b"damaged"))
    transport = 14 + (20 if family == 4 else 40)
    header = struct.pack("=BBHHHH", NEEDS_CHECKSUM, 0, 0, 0, transport, 6)
    send_with_header(net, header + f.ether_ip(GATEWAY, MAC[A], packet))


def checksum_errors(net: Net, family: int) -> int:
    with namespace.entered(net.namespaces[B]):
        if family == 4:
            with open("/proc/thread-self/net/snmp") as file:
                names, values = (line.split() for line in file if line.startswith("Udp:"))
                return int(values[names.index("InCsumErrors")])
        with open("/proc/thread-self/net/snmp6") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Udp6InCsumErrors"))


@FAMILIES
def test_a_gso_frame_is_judged_by_its_segments(net: Net, family: int) -> None:
    """One frame of 4000 bytes: in segments that fit it passes, in segments one byte longer it does not."""
    headers = (20 if family == 4 else 40) + 20
    before = net.fabric.counters(A)
    send_segments(net, family, 1500 - headers)
    counted = wait_for(lambda: changed(before, net.fabric.counters(A)), "a count")
    assert counted == {"forwarded": 1}
    assert len(net.stations[B].receive()) > 1514
    before = net.fabric.counters(A)
    send_segments(net, family, 1501 - headers)
    assert wait_for(lambda: changed(before, net.fabric.counters(A)), "a count") == {"mtu": 1}


def send_segments(net: Net, family: int, size: int) -> None:
    """A TCP frame of 4000 bytes of payload, to be cut in segments of ``size``, by PACKET_VNET_HDR."""
    packet = f.ip(ADDRESS[A, family], ADDRESS[B, family], f.tcp(unused(), 80, bytes(4000)))
    frame = f.ether_ip(GATEWAY, MAC[A], packet)
    transport = 14 + (20 if family == 4 else 40)
    kind = GSO_TCPV4 if family == 4 else GSO_TCPV6
    header = struct.pack("=BBHHHH", NEEDS_CHECKSUM, kind, transport + 20, size, transport, 16)
    send_with_header(net, header + frame)


def send_with_header(net: Net, data: bytes) -> None:
    """Send from A a frame behind a struct virtio_net_hdr, which says what is left to the card."""
    with namespace.entered(net.namespaces[A]):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sender.bind(("eth0", 0))
        sender.send(data)
