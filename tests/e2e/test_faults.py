"""terwayd killed at every point it names, and started again: ledger, cloud and kernel agree, nothing leaks.

The points and what the replay does at each are in ``control.agent.state.faults``. Each test has a running pod
whose address and traffic must not notice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from control.agent.state.faults import FaultPoint
from control.cli.client import CliError
from lab.cni_call import CniError
from lab.messages import LabError
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, reaches, settled, state, until

ADD = [FaultPoint.ADD_RESERVED, FaultPoint.ADD_APPLIED, FaultPoint.ADD_COMMITTED]
DEL = [FaultPoint.DEL_INTENT, FaultPoint.DEL_APPLIED, FaultPoint.DEL_COMMITTED]
GROW = [p for p in FaultPoint if p.startswith("grow-")]
ASSIGN = [p for p in FaultPoint if p.startswith("assign-")]
GIVE_BACK = [p for p in FaultPoint if p.startswith(("release-", "shed-"))]


def test_every_point_is_killed_at() -> None:
    assert sorted([*ADD, *DEL, *GROW, *ASSIGN, *GIVE_BACK]) == sorted(FaultPoint)


@contextlib.contextmanager
def restarted_on_death(
    bench: Bench, *, reboot: bool = False, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """As a DaemonSet does it: the agent that dies within the block is started again, without the fault.

    ``reboot``: it died with its node. No kernel object is left, and the boot id is another. ``meanwhile`` is
    called before it is started.
    """

    def restart() -> None:
        until(lambda: bench.node.agent_pid, lambda pid: pid is None)
        if reboot:
            bench.node.reboot()
        meanwhile()
        bench.start()

    with ThreadPoolExecutor(1) as pool:
        restarted = pool.submit(restart)
        yield
        restarted.result(60)
    assert bench.node.agent_pid is not None


def _restart_with(bench: Bench, point: FaultPoint) -> None:
    bench.node.stop_agent()
    bench.start(TERWAY_FAULT=point)


def _assert_undisturbed(bench: Bench, pod: LabPod) -> None:
    told = assert_agree(bench.lab, bench.node)
    row = next(a for a in told["attachments"] if a["container_id"] == pod.container_id)
    assert row["ipv4"] == str(pod.ipv4)
    assert reaches(pod, str(OUTSIDE_ADDRESS))
    assert not bench.drops()


@pytest.mark.parametrize("point", ADD)
def test_killed_during_add(node: Bench, point: FaultPoint) -> None:
    node.start()
    running = node.pod("running")
    _restart_with(node, point)
    with restarted_on_death(node), pytest.raises(CniError):
        node.pod("cut-off")
    _assert_undisturbed(node, running)
    assert len(state(node.node)["attachments"]) == 1
    assert reaches(node.pod("next"), str(running.ipv4))


@pytest.mark.parametrize("point", DEL)
def test_killed_during_delete(node: Bench, point: FaultPoint) -> None:
    node.start()
    running, leaving = node.pod("running"), node.pod("leaving")
    _restart_with(node, point)
    with restarted_on_death(node), contextlib.suppress(CniError):
        leaving.stop(remove_netns=False)
    leaving.stop()
    leaving.remove()
    _assert_undisturbed(node, running)
    assert len(state(node.node)["attachments"]) == 1


def _with_restart(node: Bench, work: Callable[[], object]) -> None:
    with restarted_on_death(node), contextlib.suppress(CniError):
        work()


@pytest.mark.parametrize("point", GROW)
def test_killed_while_an_eni_is_made(node: Bench, point: FaultPoint) -> None:
    node.configure(max_pool_size=0)
    node.start(TERWAY_FAULT=point)
    _with_restart(node, lambda: node.pod("first"))
    settled(node.node)
    running = node.pod("second")
    _assert_undisturbed(node, running)
    assert len(state(node.node)["enis"]) == 1


@pytest.mark.parametrize("point", ASSIGN)
def test_killed_while_addresses_are_assigned(node: Bench, point: FaultPoint) -> None:
    node.configure(max_pool_size=0)
    node.start()
    running = node.pod("running")
    _restart_with(node, point)
    _with_restart(node, lambda: node.pod("cut-off"))
    _assert_undisturbed(node, running)
    node.pod("next")
    _assert_undisturbed(node, running)


@pytest.mark.parametrize("point", GIVE_BACK)
def test_killed_while_addresses_are_given_back(node: Bench, point: FaultPoint) -> None:
    """``release-``: single addresses of an ENI in use. ``shed-``: a whole ENI without pods."""
    node.configure(max_pool_size=0, min_pool_size=0, ip_pool_sync_period="20s")
    node.start()
    running = node.pod("running")
    others = [node.pod(f"other-{i}") for i in range(3 if point.startswith("release-") else 15)]
    _restart_with(node, point)
    for other in others:
        node.lab.delete_pod(other)
    with restarted_on_death(node), contextlib.suppress(CliError):  # it may die before it answers
        node.advance(60)
    until(lambda: settled(node.node)["pool"], lambda p: p["releasing"] == 0)
    _assert_undisturbed(node, running)


@pytest.mark.parametrize("point", [*ADD, *DEL])
def test_node_dies_during_add_or_delete(node: Bench, point: FaultPoint) -> None:
    node.start()
    running, leaving = node.pod("running"), node.pod("leaving")
    _restart_with(node, point)
    with restarted_on_death(node, reboot=True), contextlib.suppress(LabError):
        if point in ADD:
            node.pod("cut-off")
        else:
            leaving.stop(remove_netns=False)
    _assert_back_after_reboot(node, running)


@pytest.mark.parametrize("point", [*GROW, *ASSIGN])
def test_node_dies_while_the_pool_grows(node: Bench, point: FaultPoint) -> None:
    node.configure(max_pool_size=0)
    node.start(TERWAY_FAULT=point if point in GROW else "")
    if point in ASSIGN:
        running = node.pod("running")
        _restart_with(node, point)
    with restarted_on_death(node, reboot=True), contextlib.suppress(LabError):
        node.pod("cut-off")
    if point in ASSIGN:
        _assert_back_after_reboot(node, running)
    else:
        settled(node.node)
        _assert_undisturbed(node, node.pod("after"))
        assert len(state(node.node)["enis"]) == 1


def _assert_back_after_reboot(bench: Bench, pod: LabPod) -> None:
    """Kubelet makes the sandbox anew and the pod has its address; what was half done is done or undone."""
    again = pod.recreate()
    assert again.addresses == pod.addresses
    pod.remove()
    told = settled(bench.node)
    assert {a["state"] for a in told["attachments"]} <= {"ready", "lost"}
    for record in told["attachments"]:
        if record["state"] == "lost":
            bench.lab.kubernetes.delete_pod(record["pod_namespace"], record["pod_name"])

    def collected() -> list[object]:
        """One more round of collection: the first may come before the agent has listed its pods."""
        bench.advance(400)
        rows: list[object] = settled(bench.node)["attachments"]
        return rows

    until(collected, lambda rows: len(rows) == 1)
    _assert_undisturbed(bench, again)
