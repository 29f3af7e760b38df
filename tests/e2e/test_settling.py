"""Answers of the cloud that are lost, empty or wrong, for as long as one likes: every operation has an end.

And an ENI that a dying machine left behind. In each test a pod runs that must not notice.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.agent.allocation.orphans import ORPHAN_AGE
from control.agent.state.faults import FaultPoint
from lab.client import Lab
from lab.cni_call import CniError
from lab.messages import LabError
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.refusals import undisturbed
from tests.e2e.test_faults import restarted_on_death
from tests.e2e.witnesses import assert_agree, cloud_enis, state, until

PAUSE = 31
"""Seconds that the agent leaves between two tries at most."""
ROUNDS = 40


@pytest.fixture
def made(lab: Lab) -> Iterator[Bench]:
    with bench(lab, ip_stack="dual", ip_cool_down="0s") as one:
        yield one


def _come(made: Bench, name: str) -> None:
    """A pod that may or may not be served."""
    with contextlib.suppress(CniError):
        made.pod(name)


def _ended(made: Bench) -> dict[str, Any]:
    """The state when no operation is left, however much time that takes on the clock."""
    for _ in range(ROUNDS):
        told = until(lambda: state(made.node), lambda s: s["settled"], seconds=90)
        if not told["operations"]:
            return told
        made.advance(PAUSE)
    raise AssertionError(f"for ever under way: {told['operations']}")


def _converges(made: Bench) -> None:
    """However long that takes on the clock: what nobody named is adopted, what nobody has is given up."""

    def differences() -> set[str]:
        made.advance(61)
        told = _ended(made)
        known = {r["ip"] for e in told["enis"] for r in e["addresses"]}
        return known ^ {a for e in cloud_enis(made.lab, made.node).values() for a in e["addresses"]}

    until(differences, lambda found: not found, seconds=60)


def _words(value: object) -> str:
    return "-".join(value.values()) if isinstance(value, dict) else str(value)


ASSIGN = [
    ("AssignPrivateIpAddresses", {"distortion": "empty"}),
    pytest.param("AssignPrivateIpAddresses", {"distortion": "fewer"}, marks=pytest.mark.long),
    pytest.param("AssignPrivateIpAddresses", {"distortion": "another"}, marks=pytest.mark.long),
    ("AssignPrivateIpAddresses", {"drop": "after"}),
    pytest.param("AssignIpv6Addresses", {"distortion": "empty"}, marks=pytest.mark.long),
    ("AssignIpv6Addresses", {"distortion": "another"}),
    ("AssignIpv6Addresses", {"drop": "before"}),
]


@pytest.mark.parametrize(("action", "fault"), ASSIGN, ids=_words)
def test_assignment_without_a_true_answer_ends(made: Bench, action: str, fault: dict[str, str]) -> None:
    """The token gives the same answer each time. Nothing of either family leaks, and the ENI grows again."""
    made.configure(ip_stack="dual", max_pool_size=2, ip_cool_down="0s", ip_pool_sync_period="60s")
    made.start()
    with undisturbed(made):
        made.lab.cloud.add_fault(action=action, instance_id=made.node.instance_id, **fault)
        for n in range(4):
            _come(made, f"cut-off-{n}")
        _ended(made)
        made.lab.cloud.clear_faults()
        _converges(made)
        for n in range(4):
            made.pod(f"next-{n}")
        assert_agree(made.lab, made.node)


@pytest.mark.parametrize(
    "fault",
    [
        {"distortion": "empty"},
        {"distortion": "another"},
        pytest.param({"drop": "after"}, marks=pytest.mark.long),
        {"drop": "before"},
    ],
    ids=_words,
)
def test_creation_without_a_true_answer_ends(made: Bench, fault: dict[str, str]) -> None:
    made.start()
    made.lab.cloud.add_fault(action="CreateNetworkInterface", instance_id=made.node.instance_id, **fault)
    _come(made, "cut-off")
    _ended(made)
    made.lab.cloud.clear_faults()
    made.advance(PAUSE)
    made.pod("next")
    for _ in range(4):
        made.advance(ORPHAN_AGE + 61)
        _ended(made)
    made.pod("after")
    assert len(until(lambda: cloud_enis(made.lab, made.node), lambda enis: len(enis) == 1)) == 1
    assert_agree(made.lab, made.node)


@pytest.mark.parametrize("drop", [pytest.param("before", marks=pytest.mark.long), "after"])
@pytest.mark.parametrize(
    "action",
    [
        "UnassignPrivateIpAddresses",
        pytest.param("UnassignIpv6Addresses", marks=pytest.mark.long),
        "DetachNetworkInterface",
        "DeleteNetworkInterface",
    ],
)
def test_release_without_an_answer_ends(made: Bench, action: str, drop: str) -> None:
    made.configure(ip_stack="dual", max_pool_size=0, ip_cool_down="0s", ip_pool_sync_period="30s")
    made.start()
    with undisturbed(made):
        pods = [made.pod(f"web-{n}") for n in range(3 if action.startswith("Unassign") else 17)]
        made.lab.cloud.add_fault(action=action, instance_id=made.node.instance_id, drop=drop)
        if action == "DeleteNetworkInterface":  # then it is no instance's
            made.lab.cloud.add_fault(action=action, drop=drop)
        for pod in pods:
            made.lab.delete_pod(pod)
        made.advance(31)
        until(lambda: state(made.node)["operations"], bool)
        _ended(made)
        made.lab.cloud.clear_faults()
        made.advance(7 * 3600)
        _converges(made)
        made.pod("next")
        assert_agree(made.lab, made.node)


def test_eni_that_a_dying_machine_left_behind_is_given_back(made: Bench, tmp_path: Path) -> None:
    """It died between Create and Attach, and the last commits of the ledger with it."""
    made.start()
    made.node.stop_agent()

    def directory() -> Path:
        return Path(f"/proc/{made.node.pid}/root/var/lib/cni/terway")

    shutil.copytree(directory(), tmp_path / "on-disk")
    made.start(TERWAY_FAULT=FaultPoint.GROW_CREATED)

    def restart() -> None:
        shutil.rmtree(directory())
        shutil.copytree(tmp_path / "on-disk", directory())

    with restarted_on_death(made, reboot=True, meanwhile=restart), contextlib.suppress(LabError):
        made.pod("cut-off")
    (left,) = cloud_enis(made.lab, made.node).items()
    assert left[1]["status"] == "Available"
    pod = made.pod("web")
    assert len(cloud_enis(made.lab, made.node)) == 2
    for _ in range(3):
        made.advance(ORPHAN_AGE)
        _ended(made)
    assert left[0] not in until(lambda: cloud_enis(made.lab, made.node), lambda enis: len(enis) == 1)
    assert str(pod.ipv4) in {a for e in cloud_enis(made.lab, made.node).values() for a in e["addresses"]}
    assert_agree(made.lab, made.node)
