"""An alteration, put to the test: what must be as it was again is, what is named as a flaw is not yet."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import pytest

from lab.cni_call import CniError
from perf.drift.haste import Haste
from perf.drift.item import Item, Owner, Shell, Shown, Thing
from perf.drift.scene import NAMESPACE, Scene
from perf.drift.stage import Played, Stage
from perf.drift.trial import alter, answered, look, settled, watched
from tests.drift.not_mended import NOT_MENDED
from tests.pace import patience

DEADLINE = patience(90.0)
"""Seconds: it bounds what is broken, not what is slow."""
ROUNDS = 2
"""The first may have begun before the alteration."""


@dataclass(frozen=True, slots=True)
class Beacon:
    """An object that every round puts back: when it is back, a round has been."""

    hurt: Shell
    seen: Shown


NEIGHBOUR = Beacon(
    Shell("ip neigh del {two4} dev {other}"), Shown("ip neigh show {two4} dev {other} nud permanent")
)
CNI_CONF = Beacon(
    Shell("chmod 600 {root}/etc/cni/net.d/10-terway.conf"),
    Shown("stat -c %a {root}/etc/cni/net.d/10-terway.conf"),
)


def put_to_the_test(stage: Stage, item: Item) -> None:
    """Raises AssertionError; a scene that is not whole afterwards is dropped."""
    played = stage.play()
    try:
        with closing(Haste(played.scene)) as haste:
            before = settled(played.scene, item)
            alter(played.scene, item, before)
            if item.owner is Owner.POD:
                assert_told_and_left(played.scene, item, before, haste)
            elif item.name in NOT_MENDED:
                assert_left(played.scene, item, before, haste)
            else:
                assert_mended(played, item, before, haste)
    except BaseException:  # also of a test that is interrupted
        stage.drop()
        raise
    if item.owner is Owner.POD or item.name in NOT_MENDED or item.spoils:
        stage.drop()


def assert_mended(played: Played, item: Item, before: str, haste: Haste) -> None:
    """It looks as before, every flow is answered, the pod passes CHECK, and a pod can be added."""
    scene = played.scene
    seconds = watched(scene, item, before, limit=DEADLINE, meanwhile=haste)
    assert seconds is not None, f"it was {before!r} and is {look(scene, item)!r}"
    assert answered(played.traffic, limit=DEADLINE, meanwhile=haste)
    scene.one.check()
    if item.thing in (Thing.FILE, Thing.SETTING):
        scene.lab.delete_pod(scene.lab.add_pod(scene.node.name, NAMESPACE, f"{scene.node.name}-new"))


def assert_left(scene: Scene, item: Item, before: str, haste: Haste) -> None:
    """Rounds go by and it is still not as it was."""
    for _ in range(ROUNDS):
        round_goes_by(scene, haste, item)
    assert look(scene, item) != before, "it is put back by now: take it out of tests/drift/not_mended.py"


def assert_told_and_left(scene: Scene, item: Item, before: str, haste: Haste) -> None:
    """CNI's CHECK tells it, and nobody enters the pod to put it back."""
    with pytest.raises(CniError):
        scene.one.check()
    assert_left(scene, item, before, haste)


def round_goes_by(scene: Scene, haste: Haste, item: Item) -> None:
    """Every loop of the agent has had its turn since this was called."""
    beacons = [NEIGHBOUR, CNI_CONF]
    before = [beacon.seen(scene) for beacon in beacons]
    for beacon in beacons:
        beacon.hurt(scene)
    assert [beacon.seen(scene) for beacon in beacons] != before
    for beacon, was in zip(beacons, before, strict=True):
        shown = Item("beacon", item.thing, item.change, beacon.hurt, beacon.seen, "")
        assert watched(scene, shown, was, limit=DEADLINE, meanwhile=haste) is not None, "no round goes by"
