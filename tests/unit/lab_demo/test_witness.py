"""Which path is told from counters: fast ones of pods, and forwarding ones of their nodes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lab.demo.counters import Counts, Fast, fast_of
from lab.demo.matrix import Cell, Kind, Packets, Path, Place, Protocol, Where
from lab.demo.witness import packets_of, path_of

A = Place("demo/a", Where.POD, "node1", -1, (ip_address("10.0.0.1"), ip_address("2001:db8::1")))
B = Place("demo/b", Where.POD, "node2", -1, (ip_address("10.0.0.2"),))
HOST = Place("node1", Where.NODE, "node1", -1, (ip_address("10.0.1.1"),))
OUTSIDE = Place("outside", Where.OUTSIDE, "", -1, (ip_address("203.0.113.1"),))

STILL = Counts(0, 7, 0)


def cell(source: Place, target: Place, between: Kind) -> Cell:
    return Cell(source, target, between, Protocol.UDP, 4, between)


def counts(*, fast: Fast, pod: Place, forwarded: int = 0, expired: int = 0) -> Counts:
    return Counts(forwarded, 7, expired, {str(a): fast for a in pod.addresses})


def test_every_packet_at_both_pods_and_the_stacks_still_is_ebpf() -> None:
    moved = {"node1": counts(fast=Fast(2, 2), pod=A), "node2": counts(fast=Fast(2, 2), pod=B)}
    between = cell(A, B, Kind.OTHER_NODE)
    assert path_of(between, moved, 2) is Path.EBPF
    assert packets_of(between, moved) == Packets(4, 0)


@pytest.mark.parametrize("fast", [Fast(1, 2), Fast(2, 1), Fast(0, 2)])
def test_a_packet_that_nobody_counted_is_unseen(fast: Fast) -> None:
    moved = {"node1": counts(fast=Fast(2, 2), pod=A), "node2": counts(fast=fast, pod=B)}
    assert path_of(cell(A, B, Kind.OTHER_NODE), moved, 2) is Path.UNSEEN


def test_one_forwarding_on_either_node_is_the_stack_too() -> None:
    moved = {
        "node1": counts(fast=Fast(2, 2), pod=A),
        "node2": counts(fast=Fast(2, 2), pod=B, forwarded=1),
    }
    between = cell(A, B, Kind.OTHER_NODE)
    assert path_of(between, moved, 2) is Path.BOTH
    assert packets_of(between, moved) == Packets(4, 1)


def test_forwarding_without_fast_packets_is_the_stack() -> None:
    assert path_of(cell(A, OUTSIDE, Kind.OUTSIDE), {"node1": Counts(2, 0, 0)}, 2) is Path.STACK


def test_a_router_that_ends_a_packet_has_seen_it() -> None:
    assert path_of(cell(A, OUTSIDE, Kind.OUTSIDE), {"node1": Counts(0, 0, 1)}, 1) is Path.STACK


def test_what_the_daemon_is_told_is_no_packet_of_pods() -> None:
    assert path_of(cell(A, OUTSIDE, Kind.OUTSIDE), {"node1": STILL}, 1) is Path.UNSEEN


def test_the_stack_delivers_what_ends_on_the_pods_own_host() -> None:
    assert path_of(cell(A, HOST, Kind.POD_HOST), {"node1": STILL}, 1) is Path.STACK
    assert path_of(cell(HOST, A, Kind.HOST_POD), {"node1": STILL}, 1) is Path.STACK


def test_another_nodes_host_is_no_part_of_the_path() -> None:
    between = cell(B, HOST, Kind.POD_HOST)
    assert between.nodes == ("node2",)
    assert path_of(between, {"node2": counts(fast=Fast(2, 2), pod=B)}, 2) is Path.EBPF


def test_counts_are_told_by_address_and_subtracted() -> None:
    row = {"pod": "demo/a", "addresses": ["10.0.0.1", "2001:db8::1"], "ifindex": 7, "fast": True}
    before = Counts(3, 5, 1, fast_of([{**row, "fast_out_packets": 1, "fast_in_packets": 2}]))
    after = Counts(4, 9, 1, fast_of([{**row, "fast_out_packets": 11, "fast_in_packets": 22}]))
    assert after - before == Counts(1, 4, 0, {"10.0.0.1": Fast(10, 20), "2001:db8::1": Fast(10, 20)})
    assert after.of(ip_address("10.0.0.9")) == Fast(0, 0)
    assert (after - Counts(0, 0, 0)).of("10.0.0.1") == Fast(11, 22), "a pod that was not there before"
