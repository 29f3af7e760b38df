"""The demonstration's probes through a router: good if all gets through, each fails where its packets end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.demo import exchange, narrow, probes
from lab.demo.echo import Service, echo_servers
from lab.demo.matrix import Cell, Kind, Protocol, cells
from lab.demo.probes import probe
from lab.demo.sockets import path_mtu
from tests.netns.lab_demo.conftest import MTU, World, shell

Missed = tuple[Kind, Protocol, int, str]
"""A step of a cell by name, and the cell's kind, protocol and family."""


@pytest.fixture
def served(world: World) -> Iterator[World]:
    with ExitStack() as undo:
        hidden = undo.enter_context(narrow.behind(world.target, MTU))
        undo.enter_context(echo_servers([Service(world.target), *hidden]))
        yield world


def all_cells(world: World) -> list[Cell]:
    return cells([world.source, world.target])


def failed(world: World) -> set[Missed]:
    return {missed for cell in all_cells(world) for missed in missed_of(cell)}


def missed_of(cell: Cell) -> set[Missed]:
    return {(cell.kind, cell.protocol, cell.family, name) for name, _ in probe(cell, MTU)}


def failed_of(world: World, hopeless: set[Missed], monkeypatch: pytest.MonkeyPatch) -> set[Missed]:
    """As ``failed``, but cells that hold something hopeless are tried once, and shortly."""
    found: set[Missed] = set()
    ends = {missed[:3] for missed in hopeless}
    for cell in all_cells(world):
        with monkeypatch.context() as patch:
            if (cell.kind, cell.protocol, cell.family) in ends:
                patch.setattr(exchange, "TIMEOUT", 0.5)
                patch.setattr(probes, "TRIES", 1)
            found |= missed_of(cell)
    return found


def test_all_is_good_through_a_router(served: World) -> None:
    assert {c.kind for c in all_cells(served)} == {
        Kind.OUTSIDE,
        Kind.FRAGMENTS,
        Kind.OPTIONS,
        Kind.PMTU,
        Kind.ICMP_ERROR,
    }
    assert failed(served) == set()


def of(kind: Kind, protocol: Protocol, *names: str) -> set[Missed]:
    return {(kind, protocol, family, name) for family in (4, 6) for name in names}


UNREACHABLE = (
    "icmp type destination-unreachable drop; icmpv6 type {destination-unreachable, packet-too-big} drop;"
)
EXPIRED = "icmp type time-exceeded drop; icmpv6 type time-exceeded drop;"
LATER_FRAGMENTS = "ip frag-off & 0x1fff != 0 drop; frag frag-off != 0 drop;"
OPTIONS = "ip hdrlength > 5 drop; exthdr dst exists drop; exthdr hbh exists drop;"
LARGE = "ip length 1500-1600 drop; ip6 length 1460-1500 drop;"


def filters(world: World, hook: str, rules: str) -> None:
    chain = f"chain c {{ type filter hook {hook} priority 0; {rules}\n}}"
    shell(world.router, f"nft 'table inet t {{ {chain}\n}}'")


@pytest.mark.parametrize(
    ("hook", "rule", "expected"),
    [
        pytest.param(
            "forward",
            UNREACHABLE,
            of(Kind.PMTU, Protocol.UDP, "small-hop")
            | of(Kind.PMTU, Protocol.TCP, "small-hop")
            | of(Kind.ICMP_ERROR, Protocol.UDP, "closed-port"),
            id="no-unreachable",
        ),
        pytest.param("output", EXPIRED, of(Kind.ICMP_ERROR, Protocol.ICMP, "hop-limit"), id="no-exceeded"),
        pytest.param(
            "forward",
            LATER_FRAGMENTS,
            of(Kind.FRAGMENTS, Protocol.UDP, "two", "three")
            | of(Kind.FRAGMENTS, Protocol.ICMP, "two", "three"),
            id="no-fragments",
        ),
        pytest.param(
            "forward", OPTIONS, {o for p in Protocol for o in of(Kind.OPTIONS, p, "options")}, id="no-options"
        ),
    ],
)
def test_what_the_router_drops_is_missed(
    served: World, hook: str, rule: str, expected: set[Missed], monkeypatch: pytest.MonkeyPatch
) -> None:
    filters(served, hook, rule)
    assert failed_of(served, expected, monkeypatch) == expected


def test_packets_of_the_whole_mtu_are_missed(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    filters(served, "forward", LARGE)
    monkeypatch.setattr(exchange, "TIMEOUT", 0.5)
    monkeypatch.setattr(probes, "TRIES", 1)
    missed = {m for cell in all_cells(served) if cell.is_common for m in missed_of(cell)}
    assert {name for _, protocol, _, name in missed if protocol is not Protocol.TCP} == {"mtu"}
    assert of(Kind.OUTSIDE, Protocol.UDP, "mtu") | of(Kind.OUTSIDE, Protocol.ICMP, "mtu") <= missed


STATE = """
ip -o rule; ip -6 -o rule; ip -o route show table all; ip -6 -o route show table all; ip -o link
sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding
"""


def state(netns: int) -> set[str]:
    """But for multicast, which the kernel joins and leaves as it likes."""
    return {line for line in shell(netns, STATE).splitlines() if "ff00::" not in line}


def test_a_small_hop_leaves_its_place_and_its_peer_as_they_were(world: World) -> None:
    before = state(world.target.netns), state(world.source.netns)
    with ExitStack() as undo:
        hidden = undo.enter_context(narrow.behind(world.target, MTU))
        undo.enter_context(echo_servers(hidden))
        assert any(narrow.DEVICE in line for line in state(world.target.netns))
        for cell in all_cells(world):
            if cell.kind is Kind.PMTU:
                assert probe(cell, MTU) == []
    assert state(world.target.netns) == before[0]
    assert state(world.source.netns) == before[1]


def test_what_was_learned_of_a_small_hop_is_forgotten(served: World) -> None:
    for cell in all_cells(served):
        if cell.kind is Kind.PMTU:
            assert probe(cell, MTU) == []
            with exchange.datagrams(cell, whole=True) as made:
                assert path_mtu(made) == MTU
