"""Routes, rules, neighbours and addresses as one: write, remove, name, and compare planned with present."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from datapath.difference import Difference, ObjectKind
from datapath.netlink import address, neighbour, route, rule
from datapath.netlink.address import Assigned
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Request

Object = Route | Rule | Neighbour | Assigned

ABSENT = "absent"


def add(one: Object) -> Request:
    if isinstance(one, Route):
        return route.add(one)
    if isinstance(one, Rule):
        return rule.add(one)
    if isinstance(one, Neighbour):
        return neighbour.add(one)
    return address.add(one)


def delete(one: Object) -> Request:
    if isinstance(one, Route):
        return route.delete(one)
    if isinstance(one, Rule):
        return rule.delete(one)
    if isinstance(one, Neighbour):
        return neighbour.delete(one)
    return address.delete(one)


def kind_of(one: Object) -> ObjectKind:
    return _KINDS[type(one)]


def describe(one: Object) -> str:
    return f"{kind_of(one)} {one}"


def missing(planned: Iterable[Object], present: Iterable[Object]) -> tuple[Object, ...]:
    there = set(present)
    return tuple(one for one in planned if one not in there)


def difference(one: Object, present: Sequence[Object]) -> Difference:
    """A planned object that is not there; ``found`` is what stands in its place, or "absent"."""
    others = [str(other) for other in present if type(other) is type(one) and _place(other) == _place(one)]
    return Difference(kind_of(one), describe(one), ", ".join(others) or ABSENT)


def differences(planned: Iterable[Object], present: Sequence[Object]) -> tuple[Difference, ...]:
    return tuple(difference(one, present) for one in missing(planned, present))


_KINDS = {
    Route: ObjectKind.ROUTE,
    Rule: ObjectKind.RULE,
    Neighbour: ObjectKind.NEIGHBOUR,
    Assigned: ObjectKind.ADDRESS,
}


def _place(one: Object) -> tuple[object, ...]:
    """Where only one object of a kind can be in force."""
    if isinstance(one, Route):
        return (one.destination, one.table)
    if isinstance(one, Rule):
        return (one.family, one.priority, one.source, one.destination, one.iif)
    return (one.address, one.index)
