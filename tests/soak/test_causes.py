"""Refusals and alarms, and what explains them."""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import cast

import pytest

from lab.nodes.node import LabNode
from tests.soak import causes
from tests.soak.sandbox import Sandbox

FULL = "ADD failed with code 11: InvalidVSwitchId.IpNotEnough; next try in 5 s"
FROZEN = "ADD failed with code 102: No available IP addresses: 1 of 12 in use, 8 frozen on this node"
SLOW = "ADD failed with code 11: No address has come from the cloud in 100 s (5 of 6 addresses in use)"
AWAY = "ADD failed with code 11: the Kubernetes API cannot be reached"
ADOPTED = "W control.agent.reconcile.enis: adopting ['10.0.16.7'] on eni-1, seen by cloud and metadata twice"
CRASH = "E control.agent.reconcile.upkeep: repair failed in a way nobody foresaw"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (FULL, "code InvalidVSwitchId.IpNotEnough"),
        (AWAY, "kubernetes"),
        (SLOW, "code InvalidOperation.InvalidEniState"),
        (FROZEN, "distortion another"),
        ("... was cut off by SIGKILL", ""),
    ],
)
def test_a_refusal_needs_the_cause_that_fits(words: str, cause: str) -> None:
    assert causes.of_refusal(words, {cause, "altered"}) == cause
    assert causes.of_refusal(words, {"altered"}) == ""


def test_an_answer_that_was_lost_once_does_not_explain_an_address_that_nobody_knew() -> None:
    assert causes.of_alarm(ADOPTED, {"drop"}) == ""
    assert causes.of_alarm(ADOPTED, {"drop", "unknown outcome"}) == "unknown outcome"


@pytest.mark.parametrize(
    "words",
    [
        "cali1 on ENI 00:16:3e:00:00:03: No such device: no link has this MAC; was the ENI detached?",
        "prove the pod's routing: cali1: ...; is ENI 00:16:3e:00:00:03 still attached, and was it prepared?",
    ],
)
def test_a_detached_eni_is_the_pods_on_it_alone(words: str) -> None:
    """A repeated ADD of one of them may be refused for it, a new pod may not."""
    assert causes.of_refusal(words, {"detached"}) == "detached"
    assert causes.names_broken_eni(words)
    assert not causes.names_broken_eni(FULL)


def test_nothing_explains_a_traceback() -> None:
    every = {cause for rule in (*causes.ALARMS, *causes.REFUSALS) for cause in rule.causes}
    assert causes.of_alarm(CRASH, every) == ""


def test_other_lines_are_no_alarm() -> None:
    assert causes.of_alarm("I control.agent.main: terwayd serves", set()) is None


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("rule 2048: from 10.0.16.24/32 lookup 1003: left behind: no pod has this address", True),
        ("rule 2048: from 2001:db8::c/128 lookup 1003 (IPv6): left behind: no pod has this address", True),
        ("fast path of device 14: left behind: its pod is gone", True),
        ("rule 2048: from 10.0.16.25/32 lookup 1003: left behind: no pod has this address", False),
        ("link cali1 of p1: left behind: its pod is gone", False),
    ],
)
def test_a_repair_clears_up_after_a_link_that_went_before_the_del_and_not_after_it(
    what: str, known: bool
) -> None:
    line = f"2026-12-01 06:03:26,045 W control.agent.reconcile.recovery: repaired {what}"
    at = datetime(2026, 12, 1, 6, 3, 26, 45000).timestamp()
    assert causes.link_went_first(line, [_cut(at, at + 1)]) is known
    assert causes.link_went_first(line, [_cut(at, inf)]) is known, "whose DEL is still owed"
    assert not causes.link_went_first(line, [_cut(at - 2, at - 1)]), "the DEL has left it"


def _cut(since: float, until: float) -> Sandbox:
    ips = [{"address": "10.0.16.24/32"}, {"address": "2001:db8::c/128"}]
    node = cast(LabNode, None)
    return Sandbox(node, "p2", "uid", result={"ips": ips}, cut_at=since, ended_at=until)
