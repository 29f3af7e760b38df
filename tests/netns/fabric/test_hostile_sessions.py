"""Sessions of an instance: what begins one, what ends it, how many there are, and whose flood fills whose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from lab.fabric.view import FabricView
from lab.spec import SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import (
    OUTSIDE,
    A,
    B,
    C,
    Net,
    base_view,
    build,
    changed,
    grouped_view,
    unused,
    wait_for,
)
from tests.netns.fabric.test_groups import CLOSED, FAMILIES, Talk, fragmented, passes

FIN, SYN, RST, ACK = 1, 2, 4, 16
LIMIT = 64
FLOOD = 100_000
"""More than a table for all ENIs had room for."""


@pytest.fixture
def small() -> Iterator[Net]:
    """A VPC of its own, whose instances have few sessions."""
    with ExitStack() as stack:
        yield build(stack, limited(base_view()))


def few(net: Net, *groups: SecurityGroupSpec, **members: list[str]) -> None:
    net.reset(limited(grouped_view(*groups, **members)))


def limited(view: FabricView) -> FabricView:
    return replace(view, ports=tuple(replace(port, sessions=LIMIT) for port in view.ports))


def fill(net: Net, talk: Talk, count: int) -> None:
    """``count`` new sessions of UDP, all of which are delivered."""
    for _ in range(count):
        passes(net, talk, talk.there(f.udp(unused(), 53)))


@pytest.mark.parametrize("family", [4, 6])
def test_hostile_flood_of_one_eni_ends_no_session_of_another(net: Net, family: int) -> None:
    """B lets nothing in but answers. A opens sessions to the outside, far more than any table has rows."""
    net.reset(grouped_view(CLOSED, b=["closed"]))
    talk, ours = Talk(family, B, C), unused()
    passes(net, talk, talk.there(f.tcp(ours, 80, flags=SYN)))
    passes(net, talk, talk.back(f.tcp(80, ours, flags=SYN | ACK)), back=True)
    flood(net, Talk(family, A, OUTSIDE).there(f.udp(1, 1, bytes(4))), 34 if family == 4 else 54)
    passes(net, talk, talk.back(f.tcp(80, ours, b"x", flags=ACK)), back=True)
    passes(net, talk, talk.there(f.tcp(ours, 80, b"x", flags=ACK)))


def flood(net: Net, frame: bytes, at: int) -> None:
    """FLOOD times ``frame``, each with other ports, which are at this offset."""
    before, raw = net.fabric.counters(A)["forwarded"], bytearray(frame)
    station = net.stations[A]
    for number in range(FLOOD):
        raw[at : at + 4] = (number * 7919 & 0xFFFFFFFF).to_bytes(4, "big")
        station.send(bytes(raw))
    deadline = time.monotonic() + 60
    while net.fabric.counters(A)["forwarded"] < before + FLOOD:
        assert time.monotonic() < deadline, "the flood was not forwarded"
        time.sleep(0.05)


@FAMILIES
def test_hostile_flood_of_first_fragments_ends_no_datagram_of_another(net: Net, family: int) -> None:
    talk = Talk(family, B, C)
    first, later = fragmented(talk, f.udp(unused(), 53, bytes(2000)))
    passes(net, talk, first)
    other = Talk(family, A, C)
    for _ in range(5000):
        net.stations[A].send(fragmented(other, f.udp(53, 53, bytes(1400)))[0])
    wait_for(lambda: net.stations[C].waiting() == [], "the flood to end")
    passes(net, talk, later)


@FAMILIES
def test_hostile_flood_meets_the_limit_of_its_instance(small: Net, family: int) -> None:
    """What is there goes on at the limit, in both directions, and another's sessions begin as before."""
    few(small, CLOSED, a=["closed"])
    talk, ours = Talk(family, A, OUTSIDE), unused()
    passes(small, talk, talk.there(f.udp(ours, 53)))
    fill(small, talk, LIMIT - 1)
    small.expect(A, talk.there(f.udp(unused(), 53)), "sessions")
    small.expect(A, Talk(family, A, B).there(f.tcp(unused(), 80, flags=SYN)), "sessions")
    small.expect(A, talk.there(talk.echo(unused())), "sessions")
    passes(small, talk, talk.back(f.udp(53, ours)), back=True)
    passes(small, talk, talk.there(f.udp(ours, 53)))
    other = Talk(family, B, C)
    passes(small, other, other.there(f.udp(unused(), 53)))


@FAMILIES
def test_hostile_flood_at_one_addressee_leaves_its_sessions(small: Net, family: int) -> None:
    """A has filled C's instance: B's session with C goes on, a new one is refused for C's sake."""
    few(small, CLOSED, b=["closed"])
    talk, ours = Talk(family, B, C), unused()
    passes(small, talk, talk.there(f.udp(ours, 53)))
    fill(small, Talk(family, A, C), LIMIT - 1)
    small.expect(B, talk.there(f.udp(unused(), 53)), "peer_sessions")
    passes(small, talk, talk.back(f.udp(53, ours)), back=True)
    near = Talk(family, B, OUTSIDE)
    fill(small, near, LIMIT - 1)
    small.expect(B, near.there(f.udp(unused(), 53)), "sessions")


def test_hostile_flood_from_outside_fills_the_addressee_alone(small: Net) -> None:
    inward = Talk(4, OUTSIDE, A)
    fill(small, inward, LIMIT)
    small.expect(OUTSIDE, inward.there(f.udp(unused(), 53)), "peer_sessions")
    other = Talk(4, OUTSIDE, B)
    passes(small, other, other.there(f.udp(unused(), 53)))


def test_sessions_that_have_ended_make_room(small: Net) -> None:
    """3 seconds after their end (TCP), and no sooner than somebody needs it."""
    talk = Talk(4, A, OUTSIDE)
    for _ in range(LIMIT):
        port = unused()
        passes(small, talk, talk.there(f.tcp(port, 80, flags=SYN)))
        passes(small, talk, talk.back(f.tcp(80, port, flags=RST | ACK)), back=True)
    before = small.fabric.counters(A)["forwarded"]

    def begins() -> bool:
        small.stations[A].send(talk.there(f.tcp(unused(), 80, flags=SYN)))
        return small.fabric.counters(A)["forwarded"] > before

    patiently(begins)


def patiently(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@FAMILIES
@pytest.mark.parametrize("flags", [ACK, RST, RST | ACK, FIN | ACK, SYN | ACK, SYN | FIN, SYN | RST, 0])
def test_hostile_segment_without_syn_begins_no_session(net: Net, family: int, flags: int) -> None:
    """It passes where both groups let it, and opens no way back."""
    net.reset(grouped_view(CLOSED, a=["closed"]))
    talk, ours = Talk(family), unused()
    passes(net, talk, talk.there(f.tcp(ours, 80, flags=flags)))
    for answer in (SYN | ACK, ACK, RST, SYN):
        net.expect(B, talk.back(f.tcp(80, ours, flags=answer)), "group")


@FAMILIES
def test_hostile_reply_that_nobody_asked_for_begins_no_session(net: Net, family: int) -> None:
    net.reset(grouped_view(CLOSED, a=["closed"]))
    talk, identifier = Talk(family), unused()
    passes(net, talk, talk.there(talk.echo(identifier, reply=True)))
    net.expect(B, talk.back(talk.echo(identifier)), "group")
    net.expect(B, talk.back(talk.echo(identifier, reply=True)), "group")


@FAMILIES
def test_hostile_syn_by_the_ports_of_a_call_that_has_ended(net: Net, family: int) -> None:
    """A called B, both have ended: that opens nothing towards A, whose group lets nothing in."""
    net.reset(grouped_view(CLOSED, a=["closed"]))
    talk, ours = Talk(family), unused()
    passes(net, talk, talk.there(f.tcp(ours, 80, flags=SYN)))
    passes(net, talk, talk.back(f.tcp(80, ours, flags=SYN | ACK)), back=True)
    passes(net, talk, talk.there(f.tcp(ours, 80, flags=FIN | ACK)))
    passes(net, talk, talk.back(f.tcp(80, ours, flags=FIN | ACK)), back=True)
    passes(net, talk, talk.there(f.tcp(ours, 80, flags=ACK)))
    net.expect(B, talk.back(f.tcp(80, ours, flags=SYN)), "group")
    passes(net, talk, talk.there(f.tcp(ours, 80, flags=SYN)))
    passes(net, talk, talk.back(f.tcp(80, ours, flags=SYN | ACK)), back=True)


@FAMILIES
def test_a_session_outlives_the_eni_that_is_plugged_anew(net: Net, family: int) -> None:
    """Sessions are the instance's: with another ENI beside it, A's go on when A comes back."""
    spare = replace(
        next(p for p in base_view().ports if p.port_id == C),
        owner=A,
        device="",
        addresses=frozenset(),
        port_id="spare",
        mac="00:16:3e:00:01:01",
    )
    view = grouped_view(CLOSED, a=["closed"])
    net.reset(view)
    net.fabric.apply(replace(view, ports=(*view.ports, spare)))
    talk, ours = Talk(family), unused()
    passes(net, talk, talk.there(f.udp(ours, 53)))
    net.fabric.apply(replace(view, ports=(*(p for p in view.ports if p.port_id != A), spare)))
    net.fabric.apply(replace(view, ports=(*view.ports, spare)))
    net.stations.pop(A).close()
    net.open(A)
    passes(net, talk, talk.back(f.udp(53, ours)), back=True)


@FAMILIES
@pytest.mark.parametrize("closed", ["receiver", "sender"])
def test_hostile_session_between_two_enis_of_an_instance_is_judged_at_both(
    net: Net, family: int, closed: str
) -> None:
    """They share a table: the word of the first end must not stand for the second's after a change."""
    mute = SecurityGroupSpec("mute", inner_accept=False, kind="enterprise")
    open_view = one_instance(grouped_view(mute))
    net.reset()
    net.fabric.apply(open_view)
    net.fabric.bring_up(C)
    talk, ours = Talk(family, A, C), unused()
    counted(net, talk.there(f.udp(ours, 53)), "forwarded")
    closing = grouped_view(mute, c=["mute"]) if closed == "receiver" else grouped_view(mute, a=["mute"])
    net.fabric.apply(one_instance(closing))
    counted(net, talk.there(f.udp(ours, 53)), "group")


def one_instance(view: FabricView) -> FabricView:
    """With C on A's instance."""
    ports = [replace(p, owner=A, device="") if p.port_id == C else p for p in view.ports]
    return replace(view, ports=tuple(ports))


def counted(net: Net, frame: bytes, reason: str) -> None:
    before = net.fabric.counters(A)
    net.stations[A].send(frame)
    after = wait_for(lambda: changed(before, net.fabric.counters(A)), f"{reason} to be counted")
    assert after == {reason: 1}
