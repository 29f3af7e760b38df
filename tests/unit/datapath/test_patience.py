"""Who is undone again and again waits longer and longer, and peace begins it anew."""

from __future__ import annotations

from datapath.difference import Difference, ObjectKind
from datapath.modes.policy_route.patience import _KEPT, FREELY, LONGEST, PEACE, Patience

ONE, OTHER = (
    Difference(ObjectKind.ROUTE, "route a", "absent"),
    Difference(ObjectKind.ROUTE, "route b", "absent"),
)


def test_it_waits_longer_and_longer() -> None:
    now = [1000.0]
    patience = Patience(lambda: now[0])
    for _ in range(FREELY):
        assert patience.allows(ONE.what)
        told = patience.done(ONE)
    assert told.found == "absent; undone 5 times by another hand: tried again in 1 s"
    waits = []
    for _ in range(8):
        assert not patience.allows(ONE.what)
        assert patience.allows(OTHER.what), "another object is another matter"
        began = now[0]
        while not patience.allows(ONE.what):
            now[0] += 1.0
        waits.append(now[0] - began)
        patience.done(ONE)
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST]
    now[0] += PEACE + 1
    assert patience.done(ONE) == ONE
    assert patience.allows(ONE.what)


def test_a_hand_that_thinks_of_ever_new_objects_fills_nothing() -> None:
    """Ten thousand routes that a routing daemon has put into a table of ours: each is taken off once."""
    patience = Patience(lambda: 1000.0)
    for number in range(FREELY):
        patience.done(ONE)
        for other in range(_KEPT):
            patience.done(Difference(ObjectKind.ROUTE, f"route {number} {other}", "another hand's"))
        assert len(patience._times) == _KEPT
    assert patience.done(OTHER) == OTHER
    assert patience.allows(ONE.what), "those that were put back last are known"
