"""DHCP as the VPC answers it: the ENI's primary address, byte by byte, and nothing to anybody else."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import pytest

from tests.netns.fabric import frames as f
from tests.netns.fabric.net import ADDRESS, GATEWAY, MAC, A, B, C, Net, base_view, changed
from tests.netns.fabric.talk import OWN, SUBNET_GATEWAY, bootp, dhcp

DISCOVER, OFFER, REQUEST, ACK, NAK, RELEASE = 1, 2, 3, 5, 6, 7
TEN_YEARS = struct.pack(">I", 315360000)
ROUTER = IPv4Address(SUBNET_GATEWAY[4]).packed
GRANT = {
    1: b"\xff\xff\xff\x00",
    3: ROUTER,
    6: IPv4Address("100.100.2.136").packed + IPv4Address("100.100.2.138").packed,
    51: TEN_YEARS,
    54: ROUTER,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the IP ends, ports, the leading fields of BOOTP, and the options by number."""

    ends: tuple[str, str]
    ports: tuple[int, int]
    yours: str
    client: str
    options: dict[int, bytes]


@pytest.fixture
def leased(net: Net) -> Net:
    """A has a primary address; B and C have none."""
    ports = [replace(p, primary=IPv4Address(OWN)) if p.port_id == A else p for p in base_view().ports]
    net.reset(replace(base_view(), ports=tuple(ports)))
    return net


def asked(net: Net, frame: bytes) -> Answer:
    """The answer to a client's frame, whose headers are checked here."""
    before = net.fabric.counters(A)
    answer = net.deliver(A, A, frame)
    assert changed(before, net.fabric.counters(A)) == {"answered_dhcp": 1}
    assert answer[:14] == f.mac(MAC[A]) + f.mac(GATEWAY) + b"\x08\x00"
    ip, udp, body = answer[14:34], answer[34:42], answer[42:]
    assert f.checksum(ip) == 0
    assert int.from_bytes(ip[2:4], "big") == len(answer) - 14 == 20 + int.from_bytes(udp[4:6], "big")
    assert len(body) >= 300, "BOOTP's least"
    assert body[:8] == b"\x02\x01\x06\x00\x12\x34\x56\x78"
    assert body[28:34] == f.mac(MAC[A])
    assert body[236:240] == b"\x63\x82\x53\x63"
    return Answer(
        (str(IPv4Address(ip[12:16])), str(IPv4Address(ip[16:20]))),
        (int.from_bytes(udp[:2], "big"), int.from_bytes(udp[2:4], "big")),
        str(IPv4Address(body[16:20])),
        str(IPv4Address(body[12:16])),
        options_of(body[240:]),
    )


def options_of(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while raw[0] != 255:
        found[raw[0]] = raw[2 : 2 + raw[1]]
        raw = raw[2 + raw[1] :]
    return found


@pytest.mark.parametrize(("message", "answer"), [(DISCOVER, OFFER), (REQUEST, ACK)])
@pytest.mark.parametrize(("flags", "to"), [(0, OWN), (0x8000, "255.255.255.255")])
def test_a_client_gets_the_primary_address(
    leased: Net, message: int, answer: int, flags: int, to: str
) -> None:
    got = asked(leased, dhcp(bootp(message, wanted=OWN, flags=flags)))
    assert got.ends == (SUBNET_GATEWAY[4], to)
    assert got.ports == (67, 68)
    assert (got.yours, got.client) == (OWN, "0.0.0.0")
    assert got.options == GRANT | {53: bytes([answer])}


def test_a_lease_is_renewed_where_it_is_used(leased: Net) -> None:
    renewal = dhcp(bootp(REQUEST, client=OWN), ends=(OWN, SUBNET_GATEWAY[4]), link=GATEWAY)
    got = asked(leased, renewal)
    assert got.ends == (SUBNET_GATEWAY[4], OWN)
    assert (got.yours, got.client) == (OWN, OWN)
    assert got.options == GRANT | {53: bytes([ACK])}


@pytest.mark.parametrize("wanted", [ADDRESS[B, 4], "192.0.2.1"])
def test_a_request_for_another_address_is_refused(leased: Net, wanted: str) -> None:
    got = asked(leased, dhcp(bootp(REQUEST, wanted=wanted)))
    assert got.ends == (SUBNET_GATEWAY[4], "255.255.255.255")
    assert got.yours == "0.0.0.0"
    assert got.options == {53: bytes([NAK]), 54: ROUTER}


def test_a_question_is_read_behind_options_and_padding(leased: Net) -> None:
    plain = bootp(DISCOVER)
    body = plain[:240] + b"\0\0" + b"\x3d\x07\x01" + f.mac(MAC[A]) + b"\x0c\x04node" + plain[240:]
    assert asked(leased, dhcp(body)).options[53] == bytes([OFFER])


@pytest.mark.parametrize("options", [b"", b"\x35", b"\x35\x01", b"\x35\x09\x01", b"\0" * 80, b"\xff"])
def test_hostile_options_are_read_to_the_end_of_the_packet(leased: Net, options: bytes) -> None:
    """What follows the packet in the frame is no option of it."""
    body = bootp(DISCOVER)[:240] + options
    leased.expect(A, dhcp(body) + b"\x35\x01\x01\xff", "control")


def test_an_eni_without_primary_address_gets_no_answer(leased: Net) -> None:
    frame = dhcp(bootp(DISCOVER, mac=MAC[C]))
    leased.expect(C, frame[:6] + f.mac(MAC[C]) + frame[12:], "control")
