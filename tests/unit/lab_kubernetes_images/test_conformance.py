"""What a run of the tests is summed up as: a table, failures in full, and which way pods' packets went."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lab.client import Lab
from lab.kubernetes import carried, cluster, conformance
from lab.kubernetes.carried import Carried
from lab.kubernetes.cluster import Wanted
from lab.kubernetes.conformance import Outcome
from lab.kubernetes.suite import Report, Spec
from lab.messages import LabError

PACKETS = Carried({"fast_local": 60, "fast_eni": 30, "stack_service": 100, "stack_flow": 50, "stack_mtu": 10})


def test_shares_of_all_packets_and_of_those_between_pods() -> None:
    assert (PACKETS.all, PACKETS.fast, PACKETS.between_pods) == (250, 90, 100)
    assert str(PACKETS) == (
        "pods sent 250 packets, 36.0 % of them by eBPF; "
        "of the 100 that are for no Service and no node 90.0 % went by eBPF"
    )


def test_without_a_fast_path_nothing_is_claimed() -> None:
    assert str(Carried({})) == "pods sent nothing that the fast path saw: it is off or not there"


def test_only_services_leave_no_share_between_pods() -> None:
    assert str(Carried({"stack_service": 5})).endswith(
        "of the 0 that are for no Service and no node none went by eBPF"
    )


def test_only_what_pods_send_is_counted() -> None:
    rows = [
        {"hook": "pod_egress", "reason": "fast_local", "packets": 7},
        {"hook": "eni_ingress", "reason": "fast_pod", "packets": 9},
        {"hook": "eni_egress", "reason": "seen_fast", "packets": 9},
    ]
    assert carried.of_rows(rows) == {"fast_local": 7}


def test_what_came_meanwhile() -> None:
    before = Carried({"fast_local": 10, "stack_service": 100})
    assert (PACKETS - before).packets == {"fast_local": 50, "fast_eni": 30, "stack_flow": 50, "stack_mtu": 10}


@pytest.mark.parametrize("before", [{"fast_local": 61}, {"fast_local": 1, "drop_kernel": 1}])
def test_counters_that_began_anew_are_not_subtracted(before: dict[str, int]) -> None:
    with pytest.raises(LabError, match="started anew"):
        PACKETS - Carried(before)


GOOD, BAD = Spec("a passes", 1.25), Spec("b fails", 60.0, "timed out after 60 s")


def test_the_table_has_failures_first_and_in_full() -> None:
    lines = conformance.render(Outcome(Report(2, (BAD, GOOD)), 61.4, PACKETS)).splitlines()
    assert lines[0].split() == ["RESULT", "SECONDS", "TEST"]
    assert lines[1].split() == ["FAILED", "60.0", "b", "fails"]
    assert lines[2].split() == ["passed", "1.2", "a", "passes"]
    assert lines[4:6] == ["FAILED b fails", "    timed out after 60 s"]
    assert lines[-1] == "1 of 2 tests passed in 61 s"
    assert lines[-2] == "  stack_service 100, fast_local 60, stack_flow 50, fast_eni 30, stack_mtu 10"


def test_what_never_ran_is_counted() -> None:
    text = conformance.render(Outcome(Report(4, (GOOD,)), 61.4, PACKETS))
    assert text.splitlines()[-1] == "1 of 4 tests passed in 61 s; 3 did not run"


def test_a_broken_suite_is_told_but_is_no_test() -> None:
    outcome = Outcome(Report(1, (GOOD,), (Spec("[SynchronizedAfterSuite]", 1.0, "panicked"),)), 61.4, PACKETS)
    lines = conformance.render(outcome).splitlines()
    assert "FAILED [SynchronizedAfterSuite]" in lines
    assert lines[-1] == "1 of 1 tests passed in 61 s"


@pytest.mark.parametrize(
    ("report", "passed"),
    [
        (Report(1, (GOOD,)), True),
        (Report(2, (GOOD, BAD)), False),
        (Report(2, (GOOD,)), False),
        (Report(0, ()), False),
        (Report(1, (GOOD,), (Spec("setup", 1.0, "failed"),)), False),
    ],
)
def test_only_all_of_them_is_a_pass(report: Report, passed: bool) -> None:
    assert report.passed is passed


class StandIn:
    """A lab as far as the choice of a cluster looks at it, with what was done to it."""

    def __init__(self, kubernetes: object = None) -> None:
        self.spec = SimpleNamespace(kubernetes=kubernetes)
        self.done: list[str] = []

    def down(self) -> None:
        self.done.append("down")

    def close(self) -> None:
        self.done.append("close")


def no_lab(name: str) -> StandIn:
    raise LabError(f"no lab {name!r} is up")


def test_a_cluster_of_our_own_is_taken_down_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = StandIn(), Wanted(name="x")
    monkeypatch.setattr(Lab, "attach", no_lab)
    monkeypatch.setattr(cluster, "up", lambda wanted, _say: made if wanted is asked else None)
    block = conformance.judged(asked, print)
    assert id(block.__enter__()) == id(made)
    assert made.done == []
    swallowed = block.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not swallowed
    assert made.done == ["down"]


def test_a_cluster_that_is_up_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = StandIn(SimpleNamespace(proxy="iptables", ip_stack="dual")), list[str]()
    monkeypatch.setattr(Lab, "attach", lambda _name: found)
    with conformance.judged(Wanted(name="x"), said.append) as lab:
        assert id(lab) == id(found)
    assert found.done == ["close"]
    assert said == ["using cluster 'x', which is up, with kube-proxy iptables and ip-stack dual"]


def test_a_lab_without_kubernetes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lab, "attach", lambda _name: StandIn())
    with pytest.raises(LabError, match="lab 'x' has no Kubernetes; end it, or choose another --name"):
        conformance.judged(Wanted(name="x"), print).__enter__()
