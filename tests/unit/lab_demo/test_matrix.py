"""Which cells there are: all pairs with common packets, one pair of each relation with unusual ones."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

from lab.demo.matrix import Cell, Kind, Place, Protocol, Where, cells

ADDRESSES = (ip_address("10.0.0.1"), ip_address("2001:db8::1"))


def places(nodes: int, pods: int) -> list[Place]:
    found = []
    for n in range(nodes):
        found += [Place(f"demo/{n}-{i}", Where.POD, f"node{n}", -1, ADDRESSES) for i in range(pods)]
        found.append(Place(f"node{n}", Where.NODE, f"node{n}", -1, ADDRESSES))
    return [*found, Place("outside", Where.OUTSIDE, "", -1, ADDRESSES)]


def test_every_pair_has_common_packets_of_each_protocol_and_family() -> None:
    counted = Counter(c.kind for c in cells(places(2, 3)) if c.is_common)
    assert counted == {
        Kind.SAME_NODE: 12 * 6,
        Kind.OTHER_NODE: 18 * 6,
        Kind.OUTSIDE: 6 * 6,
        Kind.HOST_POD: 12 * 6,
        Kind.POD_HOST: 12 * 6,
    }


def test_unusual_ones_are_tried_once_per_relation_family_and_protocol() -> None:
    unusual = [c for c in cells(places(2, 3)) if not c.is_common]
    keys = [(c.kind, c.between, c.protocol, c.family) for c in unusual]
    assert len(set(keys)) == len(keys)
    relations = {kind: {c.between for c in unusual if c.kind is kind} for kind in {c.kind for c in unusual}}
    pods = {Kind.SAME_NODE, Kind.OTHER_NODE, Kind.OUTSIDE}
    assert relations == {
        Kind.FRAGMENTS: {*pods, Kind.POD_HOST},
        Kind.OPTIONS: {*pods, Kind.POD_HOST},
        Kind.PMTU: pods,
        Kind.ICMP_ERROR: {*pods, Kind.POD_HOST},
    }


def test_the_hop_limit_does_not_end_at_the_pods_own_host() -> None:
    errors = [c for c in cells(places(1, 1)) if c.kind is Kind.ICMP_ERROR and c.between is Kind.POD_HOST]
    assert {c.protocol for c in errors} == {Protocol.UDP}


def test_what_the_stack_begins_comes_after_what_the_fast_path_carries() -> None:
    kinds = list(dict.fromkeys(c.kind for c in cells(places(2, 2))))
    assert kinds == list(Kind)


def test_a_family_that_one_side_lacks_is_left_out() -> None:
    some = places(1, 2)
    only_v4 = Place("demo/old", Where.POD, "node0", -1, ADDRESSES[:1])
    assert {c.family for c in cells([*some, only_v4]) if only_v4 in (c.source, c.target)} == {4}


def test_a_pod_alone_reaches_its_host_and_the_outside() -> None:
    assert {c.between for c in cells(places(1, 1))} == {Kind.OUTSIDE, Kind.HOST_POD, Kind.POD_HOST}


def ends(cell: Cell) -> tuple[bool, tuple[str, ...]]:
    return cell.ends_on_own_host, cell.nodes


def test_whose_business_a_cell_is() -> None:
    found = {(c.source.name, c.target.name): ends(c) for c in cells(places(2, 2)) if c.is_common}
    assert found["demo/0-0", "demo/0-1"] == (False, ("node0",))
    assert found["demo/0-0", "demo/1-0"] == (False, ("node0", "node1"))
    assert found["demo/0-0", "node0"] == (True, ("node0",))
    assert found["node0", "demo/0-0"] == (True, ("node0",))
    assert found["demo/0-0", "node1"] == (False, ("node0",))
    assert found["demo/0-0", "outside"] == (False, ("node0",))
