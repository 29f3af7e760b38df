"""What is said of repairs: every one is counted by its kind, an event is for a cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.agent.introspection.metrics import Metrics
from control.agent.reconcile.repair_reports import PEACE, REMEMBERED, SHOWN, SPACING, RepairReports
from control.ipam.statistics import PoolStats
from control.kube.fake import FakeKubernetes
from datapath.difference import Difference, ObjectKind

_ROOT = Path(__file__).resolve().parents[3]

ROUTE = Difference(ObjectKind.ROUTE, "route 10.0.0.5/32 dev cali0", "absent")
OTHER = Difference(ObjectKind.ROUTE, "route 10.0.0.6/32", "absent")
THIRD = Difference(ObjectKind.ROUTE, "route 10.0.0.7/32", "absent")
SYSCTL = Difference(ObjectKind.SYSCTL, "sysctl net/ipv4/conf/all/forwarding", "set otherwise by somebody")
SHUT = Difference(ObjectKind.LINK, "link cali0: what its pod may do to the node", "not shut off")


class Told:
    """Reports with a clock that a test moves."""

    def __init__(self) -> None:
        self.now, self.kubernetes, self.counted = 0.0, FakeKubernetes(), list[ObjectKind]()
        self.reports = RepairReports(self.kubernetes, lambda: self.now)
        self.reports.on_repair = self.counted.append

    def after(self, seconds: float, *done: Difference, at_once: bool = False) -> None:
        self.now += seconds
        self.reports.mended(done, at_once=at_once)

    @property
    def events(self) -> list[tuple[str, int]]:
        return [(one.reason, one.count) for one in self.kubernetes.events]

    @property
    def last(self) -> str:
        return self.kubernetes.events[-1].message


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_cause_has_one_event_and_each_object_its_place_in_the_metric(told: Told) -> None:
    for _ in range(3):
        told.after(PEACE / 2, ROUTE, OTHER)
    assert told.counted == [ObjectKind.ROUTE] * 6 == [ObjectKind("route")] * 6
    assert told.events == [("NodeRepaired", 1)]
    assert "route 10.0.0.5/32 dev cali0 (and 1 more of kind route): absent" in told.last
    told.after(PEACE, ROUTE)
    assert told.events == [("NodeRepaired", 2)], "there was peace, so this is another cause"


@pytest.mark.parametrize("kind", ObjectKind)
def test_who_undoes_an_object_a_hundred_times_is_told_of_once(told: Told, kind: ObjectKind) -> None:
    for number in range(100):
        told.after(SPACING, Difference(kind, "that object", f"absent, for the {number}th time"))
    assert told.events == [("NodeRepaired", 1)]
    assert f"kind {kind}" in told.last
    assert told.reports.counts == {kind: 100}


def test_a_second_cause_at_another_object_is_told_of(told: Told) -> None:
    told.after(0, ROUTE)
    told.after(SPACING, ROUTE, OTHER)
    assert told.events == [("NodeRepaired", 2)]
    assert OTHER.what in told.last
    told.after(0, SHUT)
    assert told.events == [("NodeRepaired", 2), ("NodeRepaired", 1)], "another kind waits for nobody"


def test_causes_that_come_close_together_share_an_event_and_none_is_lost(told: Told) -> None:
    """A rule of udev that rewrites each new link, or who deletes one route after the other."""
    told.after(0, ROUTE)
    told.after(1, OTHER)
    told.after(1, THIRD)
    assert told.events == [("NodeRepaired", 1)]
    told.after(SPACING)
    assert told.events == [("NodeRepaired", 2)], "a round that finds nothing tells what has waited"
    assert f"{OTHER.what} (and 1 more of kind route)" in told.last
    told.after(SPACING)
    assert told.events == [("NodeRepaired", 2)]


def test_what_the_kernel_told_of_at_once_is_an_event_for_settings_alone(told: Told) -> None:
    told.after(0, SHUT, at_once=True)
    assert told.events == [], "systemd-udevd does this to each new link"
    told.after(0, SYSCTL, at_once=True)
    assert told.events == [("NodeRepaired", 1)]
    assert told.counted == [ObjectKind.LINK, ObjectKind.SYSCTL]


def test_what_a_reboot_has_left_is_no_event(told: Told) -> None:
    told.reports.mended([ROUTE], events=False)
    told.after(SPACING)
    assert (told.events, told.counted) == ([], [ObjectKind.ROUTE])


def test_what_was_told_to_nobody_is_no_cause_that_is_known(told: Told) -> None:
    """A hand at what a reboot left out of order, or at a link that udev has just rewritten."""
    told.reports.mended([ROUTE], events=False)
    told.after(SPACING, SHUT, at_once=True)
    told.after(SPACING, ROUTE, SHUT)
    assert told.events == [("NodeRepaired", 1), ("NodeRepaired", 1)]


def test_what_is_left_is_told_once_for_as_long_as_it_is_there(told: Told) -> None:
    for there in ([SHUT], [SHUT], [], [SHUT]):
        told.now += 0 if there else PEACE
        told.reports.left(there)
    assert told.events == [("ForeignObject", 2)]
    assert told.reports.foreign == (SHUT,)


def test_what_comes_and_goes_is_told_once(told: Told) -> None:
    """Felix resynchronises; a virtual address moves to and fro. What stays away for a while is news again."""
    for _ in range(100):
        for there in ((OTHER,), ()):
            told.now += SPACING / 10
            told.reports.left(there)
    assert told.events == [("ForeignObject", 1)]
    told.now += PEACE
    told.reports.left((OTHER,))
    assert told.events == [("ForeignObject", 2)]
    for n in range(REMEMBERED + 10):
        told.reports.left((Difference(ObjectKind.ROUTE, f"route {n}", "there"),))
    assert len(told.reports.foreign_seen) <= REMEMBERED


def test_what_is_remembered_is_bounded(told: Told) -> None:
    many = [Difference(ObjectKind.ROUTE, f"route {number}", "absent") for number in range(REMEMBERED + 10)]
    told.after(0, *many)
    assert len(told.reports._seen) == REMEMBERED
    assert [one.one for one in told.reports.recent] == many[-SHOWN:]


def test_every_kind_is_in_the_metric_from_the_start() -> None:
    """A rate is seen from the first repair on."""
    metrics = Metrics(lambda: PoolStats(*[1] * 9), dict, dual=False)
    for kind in ObjectKind:
        value = metrics.registry.get_sample_value("terway_kernel_repairs_total", {"kind": kind.value})
        assert value == 0.0, kind


def test_every_kind_is_documented_and_used() -> None:
    page = (_ROOT / "docs/drift.md").read_text()
    source = "".join(path.read_text() for path in (_ROOT / "datapath").rglob("*.py"))
    for kind in ObjectKind:
        assert f"| `{kind}` |" in page
        assert f"ObjectKind.{kind.name}" in source, f"no object is of kind {kind}"
