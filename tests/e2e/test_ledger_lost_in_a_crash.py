"""The ledger is lost in the very crash that leaves an operation half done, and with the cloud away as well.

What the intents of the ledger would have said has to be found out from kernel, cloud, metadata and API: eight
of eight pods answer afterwards, and no address is given twice.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator

import pytest

from control.agent.state.faults import FaultPoint
from control.cli.client import CliError
from lab.client import Lab
from lab.messages import LabError
from lab.sandbox import LabPod
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.refusals import BLOCKED, refused
from tests.e2e.test_faults import DEL, GIVE_BACK, GROW, restarted_on_death
from tests.e2e.test_ledger_lost import _assert_unharmed, _directory, _time_goes_by
from tests.e2e.witnesses import assert_agree, cloud_enis, settled, state

PODS = 8
MAKES = ("CreateNetworkInterface", "AssignPrivateIpAddresses")


@pytest.fixture
def made(lab: Lab) -> Iterator[Bench]:
    with bench(lab, ip_pool_sync_period="30s", ip_cool_down="0s") as one:
        yield one


def _lose(made: Bench) -> None:
    shutil.rmtree(_directory(made))


def _cut_off(made: Bench, point: FaultPoint, pods: list[LabPod]) -> None:
    """What leads to ``point``; the agent dies there and its ledger is lost before the next one starts."""
    made.node.stop_agent()
    made.start(TERWAY_FAULT=point)
    with restarted_on_death(made, meanwhile=lambda: _lose(made)), contextlib.suppress(LabError, CliError):
        if point in DEL:
            _delete(pods)
        elif point in GROW:
            _fill(made)
        elif point in GIVE_BACK:
            _give_back(made, pods)
        else:
            made.pod("cut-off")


def _delete(pods: list[LabPod]) -> None:
    next(pod for pod in pods if pod.record.name.startswith("leaving")).stop(remove_netns=False)


def _fill(made: Bench) -> None:
    for n in range(30):
        made.pod(f"filling-{n}")


def _give_back(made: Bench, pods: list[LabPod]) -> None:
    for pod in pods:
        made.lab.delete_pod(pod)
    made.advance(60)


_SHORT = (FaultPoint.ADD_APPLIED,)


@pytest.mark.parametrize(
    "point", [p if p in _SHORT else pytest.param(p, marks=pytest.mark.long) for p in FaultPoint]
)
def test_a_crash_that_takes_the_ledger_with_it_costs_no_pod_anything(made: Bench, point: FaultPoint) -> None:
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(PODS)]
    leaving = (
        1 if point in DEL else 0 if point not in GIVE_BACK else 3 if point.startswith("release-") else 15
    )
    going = [made.pod(f"leaving-{n}") for n in range(leaving)]
    settled(made.node)
    _cut_off(made, point, going)
    made.advance(60)
    settled(made.node)
    for pod in going:
        with contextlib.suppress(LabError):
            made.lab.delete_pod(pod)
    _time_goes_by(made, 3)
    others = [
        p for p in made.lab.pods() if p.node.name == made.node.name and p.key not in {w.key for w in pods}
    ]
    late = [made.pod(f"late-{n}") for n in range(3)]
    _assert_unharmed(made, [*pods, *others, *late])


def test_with_the_cloud_away_as_well_pods_are_served_from_what_metadata_shows(made: Bench) -> None:
    made.configure(max_pool_size=5)
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(PODS)]
    settled(made.node)
    before = set(cloud_enis(made.lab, made.node))
    made.node.stop_agent(signal.SIGKILL)
    _lose(made)
    made.lab.cloud.add_fault(action="DescribeNetworkInterfaces", drop="before")
    made.lab.cloud.reset_calls()
    made.start()
    assert {row["pod_name"] for row in state(made.node)["attachments"]} == {p.record.name for p in pods}
    late = [made.pod(f"late-{n}") for n in range(2)]
    made.lab.cloud.clear_faults()
    _time_goes_by(made, 2)
    assert not sum(made.lab.cloud.calls().get(action, 0) for action in MAKES)
    assert set(cloud_enis(made.lab, made.node)) == before
    _assert_unharmed(made, [*pods, *late])
    assert_agree(made.lab, made.node)


@pytest.mark.long
def test_an_eni_without_a_pod_is_waited_for(made: Bench) -> None:
    """Nothing on the node tells whose it is: nothing is made beside it, however soon the cloud is back."""
    made.configure(max_pool_size=5)
    made.start()
    made.lab.delete_pod(made.pod("gone"))
    settled(made.node)
    before = set(cloud_enis(made.lab, made.node))
    made.node.stop_agent(signal.SIGKILL)
    _lose(made)
    made.lab.cloud.add_fault(action="DescribeNetworkInterfaces", drop="before")
    made.start()
    refused(made, "web")
    made.lab.cloud.reset_calls()
    made.lab.cloud.clear_faults()
    made.advance(BLOCKED)
    pod = made.pod("late")
    assert not made.lab.cloud.calls().get("CreateNetworkInterface")
    assert set(cloud_enis(made.lab, made.node)) == before
    _assert_unharmed(made, [pod])
