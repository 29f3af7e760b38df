"""ICMP errors come in for the session they quote, from somebody on its way, and for nothing else.

Every test runs with groups that let all in as well: an error is judged by its quote, not by a rule.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from datapath import namespace
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import (
    ADDRESS,
    GATEWAY,
    MAC,
    OUTSIDE,
    SERVICE,
    A,
    B,
    C,
    Net,
    base_view,
    grouped_view,
    unused,
)
from tests.netns.fabric.test_groups import CLOSED, FAMILIES, Talk, anyone, fragmented, group, passes

GROUPS = pytest.mark.parametrize("a_is_in", ["closed", "open"])
ABROAD = {4: "198.51.100.1", 6: "2001:db8:eeee::1"}


def error_about(
    source: str, family: int, packet: bytes, *, to: str = A, sender: str = "", v4: tuple[int, int] = (3, 4)
) -> bytes:
    """Packet too big, or IPv4's fragmentation needed, with as long a quote as each standard asks for."""
    if family == 4:
        payload = f.icmp(*v4, struct.pack(">HH", 0, 1400) + packet[:28])
    else:
        payload = f.icmp(2, 0, struct.pack(">I", 1400) + packet[:1232], v6=True)
    ends = sender or ADDRESS[source, family], ADDRESS[to, family]
    return f.ether_ip(GATEWAY, MAC[source], f.ip(*ends, payload))


def grouped(net: Net, a_is_in: str) -> None:
    net.reset(grouped_view(CLOSED, a=[a_is_in]))


@FAMILIES
@GROUPS
def test_an_error_of_the_far_end_comes_in(net: Net, family: int, a_is_in: str) -> None:
    grouped(net, a_is_in)
    talk = Talk(family)
    sent = talk.there(f.udp(unused(), 53, b"question"))
    net.expect(B, error_about(B, family, sent[14:]), "icmp_error")
    passes(net, talk, sent)
    answer = error_about(B, family, sent[14:])
    assert net.deliver(B, A, answer)[14:] == answer[14:]


@FAMILIES
@GROUPS
def test_hostile_error_of_a_third_eni_stays_out(net: Net, family: int, a_is_in: str) -> None:
    grouped(net, a_is_in)
    talk = Talk(family)
    sent = talk.there(f.udp(unused(), 53, b"question"))
    passes(net, talk, sent)
    net.expect(C, error_about(C, family, sent[14:]), "icmp_error")
    net.expect(OUTSIDE, error_about(OUTSIDE, family, sent[14:]), "icmp_error")
    if family == 4:
        for kind in ((3, 1), (3, 3), (4, 0), (11, 0), (12, 0)):
            net.expect(C, error_about(C, 4, sent[14:], v4=kind), "icmp_error")


@FAMILIES
@GROUPS
def test_hostile_error_about_a_session_that_never_was(net: Net, family: int, a_is_in: str) -> None:
    grouped(net, a_is_in)
    for payload in (f.udp(unused(), 53), f.tcp(unused(), 80, flags=2), f.echo(unused(), v6=family == 6)):
        other = Talk(family).there(payload)
        net.expect(B, error_about(B, family, other[14:]), "icmp_error")


@FAMILIES
def test_hostile_error_about_a_segment_of_no_session(net: Net, family: int) -> None:
    talk = Talk(family)
    sent = talk.there(f.tcp(unused(), 80, flags=4))
    passes(net, talk, sent)
    net.expect(B, error_about(B, family, sent[14:]), "icmp_error")


@FAMILIES
def test_hostile_error_about_someone_elses_session(net: Net, family: int) -> None:
    talk = Talk(family, A, C)
    sent = talk.there(f.udp(unused(), 53))
    passes(net, talk, sent)
    net.expect(C, error_about(C, family, sent[14:], to=B), "icmp_error")


@FAMILIES
@GROUPS
def test_an_error_of_a_router_outside_comes_in_about_what_went_there(
    net: Net, family: int, a_is_in: str
) -> None:
    grouped(net, a_is_in)
    talk = Talk(family, A, OUTSIDE)
    sent = talk.there(f.udp(unused(), 53, b"question"))
    passes(net, talk, sent)
    router = error_about(OUTSIDE, family, sent[14:], sender=ABROAD[family])
    assert net.deliver(OUTSIDE, A, router)[14:] == router[14:]
    net.expect(C, error_about(C, family, sent[14:]), "icmp_error")


@FAMILIES
def test_an_error_of_another_eni_of_the_far_instance_comes_in(net: Net, family: int) -> None:
    """A node's error about a packet to its pod has the node's address, which is another ENI's."""
    talk = Talk(family)
    sent = talk.there(f.udp(unused(), 53, b"question"))
    passes(net, talk, sent)
    answer = error_about(C, family, sent[14:])
    net.expect(C, answer, "icmp_error")
    moved = [replace(p, owner=B, device="") if p.port_id == C else p for p in base_view().ports]
    net.fabric.apply(replace(base_view(), ports=tuple(moved)))
    net.fabric.bring_up(B)
    before = net.fabric.counters(C)["forwarded"]
    send_by_c(net, answer)
    assert net.stations[A].receive()[14:] == answer[14:]
    assert net.fabric.counters(C)["forwarded"] == before + 1


def send_by_c(net: Net, frame: bytes) -> None:
    """C's device is in B's namespace, where it has the next free name."""
    net.fabric.bring_up(C)
    with namespace.entered(net.namespaces[B]), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((net.fabric.device(C) or "", 0))
        sender.send(frame)


@FAMILIES
def test_packet_too_big_about_an_answer_comes_in(net: Net, family: int) -> None:
    """B answers A; the error about B's answer goes to B, where only the session lets it in."""
    rules = group(*anyone("UDP", ports=(53, 53)))
    net.reset(grouped_view(rules, b=["tested"]))
    talk, ours = Talk(family), unused()
    passes(net, talk, talk.there(f.udp(ours, 53)))
    reply = talk.back(f.udp(53, ours, bytes(1400)))
    passes(net, talk, reply, back=True)
    passes(net, talk, error_about(A, family, reply[14:], to=B))


@FAMILIES
def test_an_error_about_a_later_fragment_comes_in(net: Net, family: int) -> None:
    talk = Talk(family)
    for frame in fragmented(talk, f.udp(unused(), 53, bytes(2000))):
        passes(net, talk, frame)
    answer = error_about(B, family, frame[14:])
    assert net.deliver(B, A, answer)[14:] == answer[14:]


@FAMILIES
def test_hostile_quote_is_read_no_further_than_its_own_header_says(net: Net, family: int) -> None:
    """The ports of a session behind a header whose packet ends before them."""
    talk = Talk(family)
    sent = talk.there(f.udp(unused(), 53, b"question"))
    passes(net, talk, sent)
    quote = bytearray(sent[14:])
    if family == 4:
        quote[2:4] = (20).to_bytes(2, "big")
    else:
        quote[4:6] = (0).to_bytes(2, "big")
    net.expect(B, error_about(B, family, bytes(quote)), "icmp_error")


def test_hostile_quote_of_the_other_family(net: Net) -> None:
    talk = Talk(4)
    sent = talk.there(f.udp(unused(), 53, b"question"))
    passes(net, talk, sent)
    payload = f.icmp(1, 0, bytes(4) + sent[14:], v6=True)
    frame = f.ether_ip(GATEWAY, MAC[B], f.ip(ADDRESS[B, 6], ADDRESS[A, 6], payload))
    net.expect(B, frame, "icmp_error")


def test_hostile_error_to_a_service_about_anothers_session(net: Net) -> None:
    """A service keeps no sessions in the fabric: what it hears of is a packet to whoever speaks."""
    reply = f.ip(ADDRESS[SERVICE, 4], ADDRESS[B, 4], f.tcp(80, unused(), flags=16))
    net.expect(A, error_about(A, 4, reply, to=SERVICE), "icmp_error")
    net.expect(A, error_about(A, 4, reply[:20], to=SERVICE), "icmp_error")
    own = error_about(B, 4, reply, to=SERVICE)
    assert net.deliver(B, SERVICE, own)[14:] == own[14:]
