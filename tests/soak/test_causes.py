"""Refusals and alarms, and what explains them."""

from __future__ import annotations

import pytest

from tests.soak import causes
from tests.soak.left_out import LEFT_OUT

FULL = "ADD failed with code 11: InvalidVSwitchId.IpNotEnough; next try in 5 s"
FROZEN = "ADD failed with code 102: No available IP addresses: 1 of 12 in use, 8 frozen on this node"
AWAY = "ADD failed with code 11: the Kubernetes API cannot be reached"
ADOPTED = "W control.daemon.reconcile: adopting ['10.0.16.7'] on eni-1, seen by cloud and metadata twice"
CRASH = "E control.daemon.upkeep: repair failed in a way nobody foresaw"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (FULL, "code InvalidVSwitchId.IpNotEnough"),
        (AWAY, "kubernetes"),
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


def test_nothing_explains_a_traceback() -> None:
    every = {cause for rule in (*causes.ALARMS, *causes.REFUSALS) for cause in rule.causes}
    assert causes.of_alarm(CRASH, every) == ""


def test_other_lines_are_no_alarm() -> None:
    assert causes.of_alarm("I control.daemon.main: terwayd serves", set()) is None


def test_what_is_left_out_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in LEFT_OUT.values())
