"""What the stack has to say to a sender it still says, and what a pod may not send is not delivered."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest

from datapath import namespace
from datapath.netlink.wire import mac_bytes
from tests.bpf import packets as p
from tests.bpf.packets import Ip, frame
from tests.netns.datapath.world import ENI1, ENI2, HOST, OUTSIDE, OUTSIDE_V6, witness
from tests.netns.fastpath.conversation import transfer
from tests.netns.fastpath.node import FAR, FAR_V6, PATIENCE, FastNode, Tenant, until

VERSIONS = [4, 6]
IP_MTU, IP_MTU_DISCOVER, IP_RECVERR, PMTU_DO = 14, 10, 11, 2
IPV6_MTU, IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_UNICAST_HOPS = 24, 23, 25, 16
TIME_EXCEEDED = {4: (2, 11), 6: (3, 3)}
"""ee_origin and ee_type of struct sock_extended_err."""


@pytest.fixture
def node(lasting_node: FastNode) -> Iterator[FastNode]:
    yield lasting_node
    lasting_node.clear()


@contextmanager
def udp_socket(netns: int, version: int) -> Iterator[socket.socket]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with namespace.entered(netns):
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        made.settimeout(PATIENCE)
        yield made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("where", ["pod", "far", "from-far"])
def test_the_node_answers_when_the_hops_run_out(node: FastNode, version: int, where: str) -> None:
    """As for traceroute: the error comes from the node, and the next hop is reached with one more."""
    pod, other = node.pod(ENI1), node.pod(ENI2)
    far = FAR if version == 4 else FAR_V6
    if where == "from-far":
        source, target, first = node.far, pod.address(version), 2
    else:
        source, target, first = pod.netns, other.address(version) if where == "pod" else far, 1
    level, recverr, ttl = (
        (socket.IPPROTO_IP, IP_RECVERR, socket.IP_TTL)
        if version == 4
        else (socket.IPPROTO_IPV6, IPV6_RECVERR, IPV6_UNICAST_HOPS)
    )
    with udp_socket(source, version) as one:
        one.setsockopt(level, recverr, 1)
        one.setsockopt(level, ttl, first)
        with node.counting("stack_hop_limit") as grown:
            one.sendto(b"probe", (str(target), 33434))
            poll = select.poll()
            poll.register(one, 0)
            assert poll.poll(PATIENCE * 1000), "no ICMP error came"
            _, ancillary, _, _ = one.recvmsg(100, 512, socket.MSG_ERRQUEUE)
        _, origin, kind = struct.unpack_from("=IBB", ancillary[0][2])
        assert (origin, kind) == TIME_EXCEEDED[version]
        assert grown["stack_hop_limit"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_closed_port_is_told(node: FastNode, version: int) -> None:
    pod, other = node.pod(ENI1), node.pod(ENI2)
    with udp_socket(pod.netns, version) as one, node.counting("fast_local") as grown:
        one.connect((str(other.address(version)), 9))
        one.send(b"anyone?")
        with pytest.raises(ConnectionRefusedError):
            one.recv(10)
    assert grown == {"fast_local": 2, "forwarded": 0}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_path_mtu_is_told(node: FastNode, version: int) -> None:
    """The ENI carries less than the pod's link; with 'do not fragment' the sender learns how much."""
    pod, outside = node.pod(ENI1), OUTSIDE if version == 4 else OUTSIDE_V6
    with witness(node.world.node) as reader:
        reader.link("set", index=node.enis["eni1"], mtu=1300)
    node.put_eni(ENI1, mtu=1300)
    level, discover = (
        (socket.IPPROTO_IP, IP_MTU_DISCOVER) if version == 4 else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
    )
    with udp_socket(pod.netns, version) as one:
        one.setsockopt(level, discover, PMTU_DO)
        one.connect((str(outside), 9000))
        with node.counting("stack_mtu") as grown:
            one.send(bytes(1400))
            mtu = IP_MTU if version == 4 else IPV6_MTU
            until(lambda: one.getsockopt(level, mtu) == 1300, "the path MTU was not learnt")
        assert grown["stack_mtu"] == 1
        with pytest.raises(OSError, match="Message too long") as refused:
            one.send(bytes(1400))
        assert refused.value.errno == errno.EMSGSIZE
    with node.counting("fast_eni") as grown, udp_socket(pod.netns, version) as one:
        one.sendto(bytes(1100), (str(outside), 9000))
    assert grown["fast_eni"] >= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_streams_fit_a_smaller_eni(node: FastNode, version: int) -> None:
    """GSO frames far longer than the MTU pass at once when their segments fit, and else find the way."""
    pod = node.pod(ENI1)
    with witness(node.world.node) as reader:
        reader.link("set", index=node.enis["eni1"], mtu=1300)
    node.put_eni(ENI1, mtu=1300)
    with node.counting("fast_eni", "stack_mtu") as grown:
        transfer(pod.netns, node.far, FAR if version == 4 else FAR_V6)
    assert grown["stack_mtu"] >= 1, "the first segments were too long"
    assert grown["fast_eni"] + grown["forwarded"] > 50


@contextmanager
def raw_socket(tenant: Tenant) -> Iterator[socket.socket]:
    """At the pod's interface, for frames as they are."""
    with namespace.entered(tenant.netns):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind(("eth0", 0))
    with made:
        yield made


def forged(thief: Tenant, victim: Tenant, to: Tenant) -> list[tuple[str, bytes]]:
    """Frames that pod ``thief`` may not send, with the reason."""
    mac, host = thief.applied.pod_mac, thief.applied.host_mac
    found = []
    for version in VERSIONS:
        own, other, target = (one.address(version) for one in (thief, victim, to))
        payload = p.udp(1, 4000)
        found += [
            ("drop_src_address", frame(host, mac, Ip(other, target, payload=payload))),
            ("drop_src_mac", frame(host, victim.applied.pod_mac, Ip(own, target, payload=payload))),
            ("drop_malformed", frame(host, mac, Ip(own, target, payload=payload))[:-3]),
            ("drop_malformed", frame(host, mac, Ip(own, target, payload=payload))[:20]),
        ]
    found.append(("drop_src_address", frame(host, mac, Ip(HOST, to.address(4), payload=p.udp(1, 4000)))))
    for source in ("::", "fe80::5"):
        packet = Ip(ip_address(source), to.address(6), payload=p.udp(1, 4000))
        found.append(("drop_src_address", frame(host, mac, packet)))
    return found


def test_what_a_pod_may_not_send_is_not_delivered(node: FastNode) -> None:
    thief, victim, target = node.pod(ENI1), node.pod(ENI1), node.pod(ENI2)
    with ExitStack() as stack:
        ears = [stack.enter_context(udp_socket(target.netns, version)) for version in VERSIONS]
        for version, ear in zip(VERSIONS, ears, strict=True):
            ear.bind((str(target.address(version)), 4000))
        raw = stack.enter_context(raw_socket(thief))
        for reason, bad in forged(thief, victim, target):
            before = node.count(reason)
            raw.send(bad)
            assert node.count(reason) == before + 1, (reason, bad.hex())
        for version, ear in zip(VERSIONS, ears, strict=True):
            ends = thief.address(version), target.address(version)
            good = Ip(*ends, payload=p.udp_checked(ends, (1, 4000), b"good"))
            raw.send(frame(thief.applied.host_mac, thief.applied.pod_mac, good))
            assert ear.recv(100) == b"good", "the first that arrives is the honest one"


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_cut_at_every_offset(node: FastNode, version: int) -> None:
    """From an empty frame to a whole packet; the kernel pads none of them."""
    pod, other = node.pod(ENI1), node.pod(ENI2)
    ends = pod.address(version), other.address(version)
    whole = frame(pod.applied.host_mac, pod.applied.pod_mac, Ip(*ends, payload=p.udp(1, 2)))
    with raw_socket(pod) as raw:
        with node.counting("drop_malformed", "fast_local") as grown:
            for length in range(15, len(whole) + 1):
                raw.send(whole[:length])
    assert grown["drop_malformed"] == len(whole) - 15
    assert grown["fast_local"] >= 1
    assert grown["forwarded"] == 0


def test_a_tagged_frame_ends_here(node: FastNode) -> None:
    """On the wire the tag is metadata of the skb, which a test run cannot make."""
    pod, other = node.pod(ENI1), node.pod(ENI2)
    packet = Ip(pod.address(4), other.address(4), payload=p.udp(1, 2))
    with raw_socket(pod) as raw, node.counting("drop_vlan", "fast_local") as grown:
        raw.send(p.tagged(frame(pod.applied.host_mac, pod.applied.pod_mac, packet)))
    assert grown == {"drop_vlan": 1, "fast_local": 0, "forwarded": 0}


def test_options_arrive_by_the_stack(node: FastNode) -> None:
    pod, other = node.pod(ENI1), node.pod(ENI2)
    with udp_socket(pod.netns, 4) as one, udp_socket(other.netns, 4) as ear:
        ear.bind((str(other.address(4)), 4000))
        one.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 0]))
        with node.counting("stack_options") as grown:
            one.sendto(b"with options", (str(other.address(4)), 4000))
            assert ear.recv(100) == b"with options"
    assert grown == {"stack_options": 1, "forwarded": 1}


def test_a_pod_may_ask_whether_its_addresses_are_free(node: FastNode) -> None:
    """Duplicate detection of IPv6, an ARP probe, and MLD reports are the stack's to hear."""
    with node.counting("drop_neighbour") as grown:
        pod = node.pod(ENI1)
    assert grown["drop_neighbour"] == 0, "what the kernel sent for the pod was all right"
    own, nobody = pod.address(6), ip_address("::")
    asked = p.icmp(135, data=own.packed)
    group = ip_address(ip_address("ff02::1:ff00:0").packed[:13] + own.packed[13:])
    probe = struct.pack("!HHBBH", 1, p.IPV4, 6, 4, 1) + mac_bytes(pod.applied.pod_mac) + bytes(10)
    with raw_socket(pod) as raw, node.counting("stack_link_talk") as grown:
        packet = Ip(nobody, group, p.ICMPV6, asked, hop_limit=255)
        raw.send(frame(f"33:33:{group.packed[12:].hex(':')}", pod.applied.pod_mac, packet))
        body = probe + pod.address(4).packed
        raw.send(frame("ff:ff:ff:ff:ff:ff", pod.applied.pod_mac, body, ethertype=p.ARP))
    assert grown["stack_link_talk"] >= 2
