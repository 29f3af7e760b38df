"""Every reason by name: the packet that meets it, what becomes of it, byte by byte, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from datapath.acceleration.rows import Device
from datapath.netlink.wire import Address, mac_bytes
from tests.bpf import packets as p
from tests.bpf.bench import GATEWAY_MAC, GATEWAY_MAC_V6, MARK_FAST, NODE, Bench, device_mac, pod_mac
from tests.bpf.differential import BY_HAND, RETURNED, UNREACHABLE
from tests.bpf.packets import Ip, frame, v4, v6
from tests.bpf.traffic import STRANGE_MAC
from tests.e2e import hostile_frames as hostile

A, B, C, D, LOST = (v4(f"10.0.1.{n}") for n in range(1, 6))
A6, B6, C6, D6, LOST6 = (v6(f"2001:db8:10:1::{n}") for n in range(1, 6))
OUT, OUT6 = v4("203.0.113.10"), v6("2001:db8:ffff::10")
UDP = p.udp(1000, 53)


@dataclass(frozen=True, slots=True)
class Case:
    """``at`` is the device. ``gso`` is the size of segments, 0 for none."""

    reason: str
    frame: bytes
    at: str = "a"
    program: str = "pod_egress"
    gso: int = 0
    mark: int = 0


def sent(source: Address, destination: Address, payload: bytes = UDP, *, by: str = "a", **more: Any) -> bytes:
    packet = replace(Ip(source, destination, payload=payload), **more)
    return frame(device_mac(by), pod_mac(by), packet)


def came(source: Address, destination: Address, *, by: str = "eni1", **more: Any) -> bytes:
    packet = replace(Ip(source, destination, payload=UDP), **more)
    return frame(device_mac(by), GATEWAY_MAC, packet)


def eni(reason: str, raw: bytes, *, at: str = "eni1", gso: int = 0) -> Case:
    return Case(reason, raw, at, "eni_ingress", gso)


def noted(reason: str, raw: bytes, *, at: str = "eni1", mark: int = 0) -> Case:
    return Case(reason, raw, at, "eni_egress" if at.startswith("eni") else "pod_ingress", mark=mark)


V6_OPTION = ((p.HOP_BY_HOP, p.extension()),)
AT = hostile.Stance(
    pod_mac("a"), device_mac("a"), {4: A, 6: A6}, {4: B, 6: B6}, pod_mac("b"), {4: C, 6: C6}, {4: NODE[0]}
)
ADVERT = b"\x60\0\0\0" + A6.packed + hostile.option(hostile.TARGET_MAC, AT.mac)
SOLICITATION = p.icmp(135, data=v6("fe80::1").packed)
REPORT = p.icmp(143, data=bytes(20))

STAYS = [
    Case("stack_link_talk", hostile.arp_frame(AT, hostile.arp((AT.mac, A), NODE[0]))),
    Case("stack_link_talk", hostile.arp_frame(AT, hostile.arp((AT.mac, v4("0.0.0.0")), A))),
    Case("stack_link_talk", hostile.arp_frame(AT, hostile.arp((AT.mac, A), A) + bytes(18))),
    Case("stack_link_talk", hostile.arp_frame(AT, hostile.arp((AT.mac, A), B, operation=hostile.REPLY))),
    Case("stack_link_talk", hostile.solicitation(AT, A6, NODE[2])),
    Case("stack_link_talk", hostile.solicitation(AT, A6, NODE[2], b"")),
    Case("stack_link_talk", hostile.solicitation(AT, hostile.link_local(AT.mac), NODE[2])),
    Case("stack_link_talk", hostile.solicitation(AT, v6("::"), A6, b"")),
    Case("stack_link_talk", hostile.solicitation(AT, v6("::"), v6("fe80::77"), bytes([14, 1]) + bytes(6))),
    Case("stack_link_talk", hostile.discovery(AT, A6, hostile.ALL_NODES, hostile.NA, ADVERT)),
    Case("stack_link_talk", hostile.discovery(AT, v6("::"), hostile.ALL_ROUTERS, hostile.RS, bytes(4))),
    Case("stack_link_talk", sent(v6("::"), v6("ff02::16"), REPORT, protocol=p.ICMPV6, chain=V6_OPTION)),
    Case("stack_link_talk", sent(v6("fe80::5"), v6("ff02::16"), REPORT, protocol=p.ICMPV6, chain=V6_OPTION)),
    Case("stack_not_host", frame("ff:ff:ff:ff:ff:ff", pod_mac("a"), Ip(A, B, payload=UDP))),
    Case("stack_link_scope", sent(A, v4("169.254.20.10"))),
    Case("stack_link_scope", sent(A, v4("255.255.255.255"))),
    Case("stack_link_scope", sent(A6, v6("ff0e::1"))),
    Case("stack_service", sent(A, v4("172.21.0.10"))),
    Case("stack_service", sent(A6, v6("fd00:21::a"))),
    Case("stack_host_cidr", sent(A, v4("198.51.100.7"))),
    Case("stack_host_cidr", sent(A6, v6("2001:db8:51::7"))),
    Case("stack_node", sent(A, v4("10.0.0.10"))),
    Case("stack_node", sent(A6, v6("2001:db8:10::a"))),
    Case("stack_options", sent(A, B, options=bytes([1] * 4))),
    Case("stack_options", sent(A6, B6, chain=V6_OPTION)),
    Case("stack_options", sent(A6, B6, chain=V6_OPTION * 6)),
    Case("stack_fragment", sent(A, B, fragment=0x2000)),
    Case("stack_fragment", sent(A, B, fragment=0x0004)),
    Case("stack_fragment", sent(A6, B6, fragment=0x0001)),
    Case("stack_fragment", sent(A6, B6, fragment=0x0040)),
    Case("stack_fragment", sent(A, B, UDP[:3], fragment=0x2000)),
    Case("stack_hop_limit", sent(A, B, hop_limit=1)),
    Case("stack_hop_limit", sent(A6, OUT6, hop_limit=0)),
    Case("stack_mtu", sent(A, B, p.udp(1, 2, bytes(1401 - 28)))),
    Case("stack_mtu", sent(A6, OUT6, p.udp(1, 2, bytes(1501 - 48)))),
    Case("stack_mtu", sent(A, B) + bytes(1401)),
    Case("stack_mtu", sent(A, B, p.tcp(1, 2, bytes(2000)), protocol=p.TCP), gso=1400 - 40 + 1),
    Case("stack_mtu", sent(A6, OUT6, p.tcp(1, 2, bytes(2000), words=8), protocol=p.TCP), gso=1500 - 72 + 1),
    Case("stack_pod_off", sent(D, A, by="d"), "d"),
    Case("stack_pod_off", sent(A6, D6)),
    Case("stack_no_eni", sent(LOST, OUT, by="lost"), "lost"),
    eni("stack_vlan", p.tagged(came(OUT, A))),
    eni("stack_link_talk", frame(device_mac("eni1"), GATEWAY_MAC, bytes(28), ethertype=p.ARP)),
    eni("stack_link_talk", came(OUT6, A6, protocol=p.ICMPV6, payload=SOLICITATION)),
    eni("stack_not_ip", frame(device_mac("eni1"), GATEWAY_MAC, bytes(46), ethertype=0x88CC)),
    eni("stack_not_host", frame(STRANGE_MAC, GATEWAY_MAC, Ip(OUT, A, payload=UDP))),
    eni("stack_malformed", came(OUT, A)[:-1]),
    eni("stack_malformed", came(OUT6, v6("::ffff:10.0.1.1"))),
    eni("stack_no_pod", came(OUT, v4("10.0.0.10"))),
    eni("stack_no_pod", came(OUT6, OUT6)),
    eni("stack_other_eni", came(OUT, A, by="eni2"), at="eni2"),
    eni("stack_pod_off", came(OUT, D)),
    eni("stack_options", came(OUT, A, options=bytes([1] * 8))),
    eni("stack_fragment", came(OUT6, A6, fragment=0x0001)),
    eni("stack_transport", came(OUT, A, payload=UDP[:7])),
    eni("stack_transport", came(OUT, A, payload=UDP[:4]) + UDP[4:]),
    eni("stack_transport", came(OUT6, A6, payload=UDP[:-1]) + UDP[-1:]),
    eni("stack_transport", came(OUT6, A6, payload=p.tcp(1, 2, words=6)[:20], protocol=p.TCP) + bytes(4)),
    eni("stack_hop_limit", came(OUT, A, hop_limit=1)),
    eni("stack_mtu", came(OUT, B, payload=p.udp(1, 2, bytes(1401 - 28)))),
    noted("seen_new", came(OUT, A)),
    noted("seen_new", came(OUT, A), mark=MARK_FAST | 0x4000),
    noted("seen_new", came(OUT, A), mark=0xFFFFFFFF),
    noted("seen_nothing", came(OUT, OUT)),
    noted("seen_nothing", frame(STRANGE_MAC, device_mac("a"), bytes(28), ethertype=p.ARP)),
    noted("seen_nothing", came(OUT, A, fragment=0x0004)),
    noted("seen_nothing", came(OUT, v4("224.0.0.5"))),
    noted("seen_nothing", came(OUT6, A6, protocol=p.ICMPV6, payload=SOLICITATION)),
    noted("seen_nothing", came(OUT, A, protocol=p.ICMP, payload=p.icmp(3, data=bytes(28)))),
    noted("seen_nothing", came(OUT, A)[:-1]),
]

DROPS = [
    Case("drop_src_mac", frame(device_mac("a"), STRANGE_MAC, Ip(A, B, payload=UDP))),
    Case("drop_src_mac", frame("ff:ff:ff:ff:ff:ff", STRANGE_MAC, bytes(28), ethertype=p.ARP)),
    Case("drop_src_address", sent(B, C)),
    Case("drop_src_address", sent(B6, C6)),
    Case("drop_src_address", sent(v6("::"), C6)),
    Case("drop_src_address", sent(v6("fe80::5"), C6)),
    Case("drop_src_address", sent(v6("fe80::5"), v6("ff02::1"), p.icmp(128), protocol=p.ICMPV6)),
    Case("drop_src_address", sent(v4("0.0.0.0"), v4("255.255.255.255"))),
    Case("drop_malformed", sent(A, B)[:-1]),
    Case("drop_malformed", sent(A6, B6)[:-1]),
    Case("drop_malformed", sent(v6("::ffff:10.0.1.1"), B6)),
    Case("drop_malformed", sent(A6, v6("::ffff:10.0.1.2"))),
    Case("drop_malformed", sent(A, B, UDP[:3])),
    Case("drop_malformed", sent(A, B, p.tcp(1, 2, words=4), protocol=p.TCP)),
    Case("drop_malformed", sent(A6, B6, p.tcp(1, 2)[:12], protocol=p.TCP)),
    Case("drop_malformed", sent(A6, B6, chain=V6_OPTION * 7)),
    Case("drop_vlan", p.tagged(sent(A, B))),
    Case("drop_not_ip", frame(device_mac("a"), pod_mac("a"), bytes(46), ethertype=0x88CC)),
    Case("drop_unknown_pod", frame(device_mac("stray"), STRANGE_MAC, Ip(A, B, payload=UDP)), "stray"),
    Case("drop_neighbour", frame("ff:ff:ff:ff:ff:ff", pod_mac("a"), bytes(28), ethertype=p.ARP)),
    Case("drop_router_talk", sent(A, B, p.icmp(5, 1, data=bytes(28)), protocol=p.ICMP)),
    Case("drop_tunnel", sent(A, NODE[0], bytes(40), protocol=p.GRE)),
    Case("drop_tunnel", sent(A, v4("172.21.0.10"), bytes(40), protocol=p.GRE)),
    Case("drop_tunnel", sent(A6, v6("fe80::2"), bytes(40), protocol=41)),
]


def case_id(case: Case) -> str:
    return f"{case.program}-{case.reason}"


@pytest.mark.parametrize("case", STAYS, ids=case_id)
def test_the_stack_gets_it_as_it_came(node: Bench, case: Case) -> None:
    before = node.fast.counters()[case.program].get(case.reason, 0)
    found = node.run(case.program, case.at, case.frame, mark=case.mark, gso=(case.gso, 2 if case.gso else 0))
    assert (found.verdict, found.reason, found.target) == ("stack", case.reason, 0)
    assert found.returned == RETURNED["stack"]
    assert (found.packet, found.mark) == (case.frame, case.mark)
    assert node.fast.counters()[case.program][case.reason] == before + 1


@pytest.mark.parametrize("case", DROPS, ids=case_id)
def test_what_a_pod_may_not_send_ends_here(node: Bench, case: Case) -> None:
    def dropped() -> int:
        """Of the pod's, or of all if the device is no pod's."""
        counted = node.fast.endpoint_counters()
        at = [node.pods[case.at].host_ifindex] if case.at in node.pods else list(counted)
        return sum(counted[pod].dropped_packets for pod in at)

    before = dropped()
    found = node.run("pod_egress", case.at, case.frame)
    assert (found.verdict, found.reason, found.returned) == ("drop", case.reason, RETURNED["drop"])
    assert found.packet == case.frame
    assert dropped() == before + (case.at in node.pods)


@pytest.mark.parametrize("way", ["local", "vpc"])
@pytest.mark.parametrize("ends", [(A, C), (A6, C6)], ids=["v4", "v6"])
def test_what_is_for_a_pod_whose_link_is_down_has_a_reason(
    node: Bench, ends: tuple[Address, Address], way: str
) -> None:
    """Until the agent hears that it is up again, or a frame of the pod's own says so."""
    source, target = ends
    if way == "local":
        at, raw, fast = ("pod_egress", "a"), sent(source, target), "fast_local"
    else:
        at, raw, fast = (
            ("eni_ingress", "eni2"),
            came(OUT if source.version == 4 else OUT6, target, by="eni2"),
            "fast_pod",
        )
    c = node.pods["c"].host_ifindex
    assert node.run(*at, raw).reason == fast
    assert node.fast.set_pod_down(c, True)
    assert not node.fast.set_pod_down(c, True), "no news"
    found = node.run(*at, raw)
    assert (found.verdict, found.reason, found.packet) == ("drop", "drop_pod_down", raw)
    assert node.fast.set_pod_down(c, False)
    assert node.run(*at, raw).reason == fast
    assert node.fast.set_pod_down(c, True)
    node.fast.put_endpoint(node.pods["c"])
    assert node.run(*at, raw).reason == "drop_pod_down", "a row that is written anew says so still"
    node.run("pod_egress", "c", sent(C, A, by="c"))
    assert node.run(*at, raw).reason == fast
    assert not node.fast.set_pod_down(c, False), "no news"


@pytest.mark.parametrize("sender", [A6, hostile.link_local(pod_mac("a")), v6("fe80::77")], ids=str)
def test_a_guest_hears_of_its_gateway_by_nd(node: Bench, sender: Address) -> None:
    found = node.run("pod_egress", "a", hostile.solicitation(AT, sender, hostile.GATEWAY_V6))
    assert (found.verdict, found.reason) == ("answer", "fast_answer")
    assert (found.returned, found.target) == (7, node.pods["a"].host_ifindex)
    body = b"\xe0\0\0\0" + hostile.GATEWAY_V6.packed + hostile.option(hostile.TARGET_MAC, AT.host_mac)
    message = hostile.checked(hostile.GATEWAY_V6, sender, bytes([hostile.NA, 0, 0, 0]) + body)
    packet = Ip(hostile.GATEWAY_V6, sender, p.ICMPV6, message, hop_limit=255)
    assert found.packet == frame(AT.mac, AT.host_mac, packet)


def test_a_guest_hears_of_its_gateway_by_arp(node: Bench) -> None:
    for padding in (b"", bytes(18)):
        question = hostile.arp((AT.mac, A), hostile.GATEWAY) + padding
        found = node.run("pod_egress", "a", hostile.arp_frame(AT, question))
        assert (found.verdict, found.reason, found.returned) == ("answer", "fast_answer", 7)
        ends = mac_bytes(AT.host_mac) + hostile.GATEWAY.packed + mac_bytes(AT.mac) + A.packed
        answer = question[:6] + b"\0\x02" + ends + padding
        assert found.packet == frame(AT.mac, AT.host_mac, answer, ethertype=p.ARP)


@pytest.mark.parametrize("ends", [(A, C), (A6, C6)], ids=["v4", "v6"])
@pytest.mark.parametrize("size", [0, 1, 6])
def test_padding_of_a_short_frame_is_no_fault(node: Bench, ends: tuple[Address, Address], size: int) -> None:
    """What Ethernet adds to reach its 60 bytes, or a driver that pads to words."""
    for payload, protocol in ((p.udp(1, 2, b""), p.UDP), (p.tcp(1, 2), p.TCP)):
        raw = sent(*ends, payload, protocol=protocol) + bytes(size)
        found = node.run("pod_egress", "a", raw)
        assert (found.verdict, found.reason) == ("peer", "fast_local")
        assert found.packet == rewritten(raw[: len(raw) - size], pod_mac("c"), device_mac("c")) + bytes(size)


def rewritten(raw: bytes, to: str, source: str) -> bytes:
    """One hop on: other MACs, one off the hop limit, and IPv4's checksum made anew."""
    if raw[12:14] == b"\x08\x00":
        head = raw[14:22] + bytes([raw[22] - 1, raw[23]]) + b"\0\0" + raw[26:34]
        head = head[:10] + p.checksum(head).to_bytes(2, "big") + head[12:]
        rest = head + raw[34:]
    else:
        rest = raw[14:21] + bytes([raw[21] - 1]) + raw[22:]
    return mac_bytes(to) + mac_bytes(source) + raw[12:14] + rest


PAYLOADS = [
    (p.UDP, UDP),
    (p.TCP, p.tcp(1, 80, b"x" * 100, words=8)),
    (p.SCTP, p.udp(1, 2)),
    (p.GRE, b"anything"),
]


@pytest.mark.parametrize(("protocol", "payload"), PAYLOADS, ids=["udp", "tcp", "sctp", "gre"])
@pytest.mark.parametrize("ends", [(A, C), (A6, C6)], ids=["v4", "v6"])
def test_into_a_pod_of_this_node(
    node: Bench, ends: tuple[Address, Address], protocol: int, payload: bytes
) -> None:
    raw = sent(*ends, payload, protocol=protocol)
    a, c = node.pods["a"].host_ifindex, node.pods["c"].host_ifindex
    before = node.fast.endpoint_counters()
    found = node.run("pod_egress", "a", raw)
    assert (found.verdict, found.reason, found.target) == ("peer", "fast_local", c)
    assert found.packet == rewritten(raw, pod_mac("c"), device_mac("c"))
    assert (found.returned, found.mark) == (7, 0)
    after = node.fast.endpoint_counters()
    assert after[a].fast_out_packets - before[a].fast_out_packets == 1
    assert after[a].fast_out_bytes - before[a].fast_out_bytes == len(raw)
    assert after[c].fast_in_packets - before[c].fast_in_packets == 1
    assert after[c].fast_in_bytes - before[c].fast_in_bytes == len(raw)


@pytest.mark.parametrize(
    ("ends", "gateway"), [((A, OUT), GATEWAY_MAC), ((A6, OUT6), GATEWAY_MAC_V6)], ids=["v4", "v6"]
)
def test_out_of_the_pods_own_eni(node: Bench, ends: tuple[Address, Address], gateway: str) -> None:
    raw = sent(*ends)
    found = node.run("pod_egress", "a", raw, mark=0x4000)
    assert (found.verdict, found.reason) == ("eni", "fast_eni")
    assert found.target == node.enis["eni1"].ifindex
    assert found.packet == rewritten(raw, gateway, device_mac("eni1"))
    assert found.mark == 0x4000 | MARK_FAST


@pytest.mark.parametrize("ends", [(C, OUT), (C6, OUT6)], ids=["v4", "v6"])
def test_a_gateway_without_known_mac_is_the_kernels_to_find(
    node: Bench, ends: tuple[Address, Address]
) -> None:
    raw = sent(*ends, by="c")
    found = node.run("pod_egress", "c", raw)
    assert (found.verdict, found.reason) == ("neigh", "fast_neigh")
    assert found.target == node.enis["eni2"].ifindex
    assert found.packet == rewritten(raw, device_mac("c"), pod_mac("c"))
    assert found.mark == MARK_FAST


@pytest.mark.parametrize("ends", [(OUT, A), (OUT6, A6)], ids=["v4", "v6"])
def test_from_the_vpc_into_the_pod(node: Bench, ends: tuple[Address, Address]) -> None:
    raw = came(*ends)
    found = node.run("eni_ingress", "eni1", raw)
    assert (found.verdict, found.reason, found.target) == (
        "peer",
        "fast_pod",
        node.pods["a"].host_ifindex,
    )
    assert found.packet == rewritten(raw, pod_mac("a"), device_mac("a"))


@pytest.mark.parametrize("whole", [1400, 1401])
def test_segments_are_measured_and_not_the_train(node: Bench, whole: int) -> None:
    raw = sent(A, B, p.tcp(1, 2, bytes(2000), words=8), protocol=p.TCP)
    found = node.run("pod_egress", "a", raw, gso=(whole - 20 - 32, 2))
    assert found.reason == ("fast_local" if whole <= 1400 else "stack_mtu")


@pytest.mark.parametrize("ends", [(A, C), (A6, C6)], ids=["v4", "v6"])
def test_a_train_that_is_longer_than_its_header_can_say(node: Bench, ends: tuple[Address, Address]) -> None:
    """BIG TCP: the length is 0 then, which of a frame by itself is no length."""
    raw = bytearray(sent(*ends, p.tcp(1, 2, bytes(2000)), protocol=p.TCP))
    place = 16 if ends[0].version == 4 else 18
    raw[place : place + 2] = b"\0\0"
    assert node.run("pod_egress", "a", bytes(raw), gso=(1400, 2)).reason == "fast_local"
    assert node.run("pod_egress", "a", bytes(raw)).reason == "drop_malformed"


@pytest.mark.parametrize("program", ["pod_egress", "eni_ingress"])
def test_a_node_that_is_off_leaves_all_to_the_stack(node: Bench, program: str) -> None:
    raw, at = (sent(A, B), "a") if program == "pod_egress" else (came(OUT, A), "eni1")
    assert node.run(program, at, raw).verdict == "peer"
    node.fast.switch(False)
    try:
        found = node.run(program, at, raw)
        assert (found.verdict, found.reason, found.packet) == ("stack", "stack_off", raw)
        assert node.run("pod_egress", "a", sent(B, C)).reason == "drop_src_address"
    finally:
        node.fast.switch(True)


def echo(source: Address, kind: int, identifier: int = 7) -> dict[str, Any]:
    protocol = p.ICMP if source.version == 4 else p.ICMPV6
    return {"protocol": protocol, "payload": p.icmp(kind, 0, identifier)}


ANSWERS = [
    ((A, C), {}, {"payload": p.udp(53, 1000)}),
    ((A6, C6), {}, {"payload": p.udp(53, 1000)}),
    (
        (OUT, C),
        {"protocol": p.TCP, "payload": p.tcp(9, 80)},
        {"protocol": p.TCP, "payload": p.tcp(80, 9)},
    ),
    (
        (A, C),
        {"protocol": p.SCTP, "payload": p.udp(9, 80)},
        {"protocol": p.SCTP, "payload": p.udp(80, 9)},
    ),
    ((A, C), echo(A, 8), echo(A, 0)),
    ((A6, C6), echo(A6, 128), echo(A6, 129)),
]


@pytest.mark.parametrize(("ends", "asked", "answered"), ANSWERS)
def test_the_stack_answers_what_the_stack_sent(
    node: Bench, ends: tuple[Address, Address], asked: dict[str, Any], answered: dict[str, Any]
) -> None:
    source, destination = ends
    reply = sent(destination, source, by="c", **answered)
    assert node.run("pod_egress", "c", reply).verdict in ("peer", "neigh")
    forward = came(source, destination, **asked)
    assert node.run("pod_ingress", "c", forward).reason == "seen_new"
    assert node.run("pod_ingress", "c", forward).reason == "seen_known"
    found = node.run("pod_egress", "c", reply)
    assert (found.verdict, found.reason, found.packet) == ("stack", "stack_flow", reply)
    if source == A:
        found = node.run("pod_egress", "a", sent(source, destination, by="a", **asked))
        assert (found.verdict, found.reason) == ("stack", "stack_flow"), "the same carrier in both directions"
    # Another port is another flow.
    other = sent(destination, source, p.udp(54, 1000), by="c")
    assert node.run("pod_egress", "c", other).verdict in ("peer", "neigh")


def test_an_answer_from_the_vpc_is_the_stacks_too(node: Bench) -> None:
    assert node.run("eni_egress", "eni1", sent(A, OUT)).reason == "seen_new"
    found = node.run("eni_ingress", "eni1", came(OUT, A, payload=p.udp(53, 1000)))
    assert (found.verdict, found.reason) == ("stack", "stack_flow")


@pytest.mark.parametrize(("own", "away"), [(NODE[0], OUT), (NODE[2], OUT6)], ids=["v4", "v6"])
def test_the_nodes_address_leaves_by_the_nodes_eni(node: Bench, own: Address, away: Address) -> None:
    """Untouched, fragments too, from whatever pod's ENI; not from a veth, nor what never leaves the link."""
    answer = sent(own, away)
    later = sent(own, away, fragment=0x0004) if own.version == 4 else answer
    for frame_out in (answer, later):
        found = node.run("eni_egress", "eni2", frame_out)
        assert (found.verdict, found.reason, found.target) == ("neigh", "seen_home", node.devices["home"])
        assert (found.packet, found.mark) == (frame_out, 0)
    assert node.run("pod_ingress", "c", answer).reason == "seen_nothing", "of no pod"
    assert node.run("eni_egress", "home", answer).reason == "seen_nothing"
    solicitation = sent(v6("2001:db8:10::a"), v6("ff02::1:ff00:1"), p.icmp(135), protocol=p.ICMPV6)
    assert node.run("eni_egress", "eni2", solicitation).reason == "seen_nothing"


@pytest.mark.parametrize(("ends", "kind"), [((A, C), 3), ((A6, C6), 2)], ids=["v4", "v6"])
def test_an_error_goes_the_way_of_what_it_is_about(
    node: Bench, ends: tuple[Address, Address], kind: int
) -> None:
    source, destination = ends
    quoted = Ip(source, destination, payload=UDP).encoded()
    number = p.ICMP if source.version == 4 else p.ICMPV6
    error = sent(destination, source, p.icmp(kind, data=quoted), by="c", protocol=number)
    assert node.run("pod_egress", "c", error).reason == "fast_local"
    short = sent(destination, source, p.icmp(kind, data=quoted[:16]), by="c", protocol=number)
    assert node.run("pod_egress", "c", short).reason == "stack_quote"
    node.run("pod_ingress", "c", came(source, destination))
    found = node.run("pod_egress", "c", error)
    assert (found.verdict, found.reason, found.packet) == ("stack", "stack_quote", error)


@pytest.mark.parametrize("whole", [sent(A, B), sent(A6, B6)], ids=["v4", "v6"])
def test_cut_at_every_offset_behind_the_ip_header(node: Bench, whole: bytes) -> None:
    """Of a frame whose lengths are right for what is left, only the transport can be missing."""
    header = 34 if whole[12] == 8 else 54
    for length in range(header, len(whole)):
        assert node.run("pod_egress", "a", whole[:length]).reason == "drop_malformed", length
        raw = bytearray(whole[:length])
        if whole[12] == 8:
            raw[16:18] = (length - 14).to_bytes(2, "big")
        else:
            raw[18:20] = (length - 54).to_bytes(2, "big")
        raw[header + 4 : header + 6] = (length - header).to_bytes(2, "big")[: max(0, length - header - 4)]
        wanted = "drop_malformed" if length < header + 8 else "fast_local"
        assert node.run("pod_egress", "a", bytes(raw)).reason == wanted, length


def test_members_of_a_trunk_share_a_device_and_no_packets(node: Bench) -> None:
    """Until the programs write tags themselves, what is a member's takes the stack."""
    member = replace(node.enis["eni1"], mac="02:00:00:00:00:77", vlan=5)
    node.fast.put_uplink(member)
    try:
        node.fast.put_endpoint(replace(node.pods["a"], uplink=member.name))
        assert node.run("pod_egress", "a", sent(A, OUT)).reason == "stack_member"
        assert node.run("pod_egress", "a", sent(A, B)).reason == "fast_local"
        assert node.run("eni_ingress", "eni1", came(OUT, A)).reason == "stack_other_eni"
        assert node.run("eni_ingress", "eni1", came(OUT, B)).reason == "fast_pod"
    finally:
        node.fast.put_endpoint(node.pods["a"])
        node.fast.drop_uplink(member.name)
    assert node.run("eni_ingress", "eni1", came(OUT, A)).reason == "fast_pod"


def test_a_device_that_is_plugged_anew_keeps_the_id(node: Bench) -> None:
    """One row is another, and none of a pod's."""
    pods, ids = node.fast.rows("pods"), node.fast.uplinks()
    moved = replace(node.enis["eni1"], ifindex=node.devices["stray"])
    try:
        node.fast.drop_uplink(moved.name)
        assert node.run("pod_egress", "a", sent(A, OUT)).reason == "stack_no_eni"
        assert node.run("eni_ingress", "eni1", came(OUT, A)).reason == "stack_other_eni"
        node.fast.put_uplink(moved)
        assert node.fast.uplinks() == {n: moved if one.name == moved.name else one for n, one in ids.items()}
        assert node.run("pod_egress", "a", sent(A, OUT)).target == moved.ifindex
        assert node.run("eni_ingress", "stray", came(OUT, A, by="stray")).reason == "fast_pod"
    finally:
        node.fast.put_uplink(node.enis["eni1"])
    assert [row.tobytes() for _, row in node.fast.rows("pods")] == [row.tobytes() for _, row in pods]


def test_a_kind_of_device_that_demultiplexes_by_itself_is_the_stacks(node: Bench) -> None:
    try:
        for kind, reasons in (
            (Device.NETKIT, ("fast_local", "fast_pod")),
            (Device.OTHER, ("stack_device",) * 2),
        ):
            node.fast.put_endpoint(replace(node.pods["b"], device=kind))
            found = node.run("pod_egress", "a", sent(A, B)), node.run("eni_ingress", "eni1", came(OUT, B))
            assert tuple(one.reason for one in found) == reasons
    finally:
        node.fast.put_endpoint(node.pods["b"])


def test_every_reason_but_one_has_a_case(node: Bench) -> None:
    named = {case.reason for case in (*STAYS, *DROPS)}
    elsewhere = {"fast_local", "fast_eni", "fast_neigh", "fast_pod", "stack_off", "stack_flow", "stack_quote"}
    elsewhere |= {"seen_known", "seen_home", "drop_pod_down", "fast_answer"}
    elsewhere |= BY_HAND
    assert named | elsewhere == set(node.fast.names.reasons) - UNREACHABLE
