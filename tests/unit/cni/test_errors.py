from __future__ import annotations

import json

import pytest

from cni.errors import CODE_OF_CAUSE, TRUNKING_UNSUPPORTED, CniError, Code, failure, incompatible
from cni.version import SUPPORTED
from control.model.errors import TEMPORARY, Cause


def test_every_cause_has_a_code_and_a_message() -> None:
    assert set(CODE_OF_CAUSE) == {str(cause) for cause in Cause}
    assert all(message for _, message in CODE_OF_CAUSE.values())


@pytest.mark.parametrize("cause", Cause)
def test_try_again_is_said_of_what_goes_away_by_itself(cause: Cause) -> None:
    assert (CODE_OF_CAUSE[cause][0] == Code.TRY_AGAIN) == (cause in TEMPORARY)


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        (Cause.VSWITCH_FULL, 100, "No available IP addresses"),
        (Cause.ENI_QUOTA, 101, "QuotaExceeded.Eni"),
        (Cause.IP_QUOTA, 102, "No available IP addresses"),
        (Cause.SECURITY_GROUP_FULL, 102, "the security group is full"),
        (Cause.POOL_LIMIT, 102, "No available IP addresses"),
        (Cause.INVALID_SECURITY_GROUP, 103, "invalid security group"),
        (Cause.INVALID_VSWITCH, 103, "invalid vSwitch"),
        (Cause.THROTTLED, 11, "throttles"),
        (Cause.CONFIG, 7, "invalid configuration"),
    ],
)
def test_codes_and_the_words_of_network_modes(cause: Cause, code: int, words: str) -> None:
    error = failure(cause, "eni-1: details")
    assert (error.code, error.details) == (code, "eni-1: details")
    assert words in error.msg


def test_what_the_message_says_the_details_do_not_repeat() -> None:
    """A runtime prints both in one line, which is long enough."""
    error = failure(Cause.VSWITCH_FULL, "Assign failed; No available IP addresses: add a vSwitch")
    assert error.details == "Assign failed; add a vSwitch"


def test_message_of_the_caller_and_unknown_causes() -> None:
    error = failure(Cause.UNSUPPORTED, "ecs.t5", msg=TRUNKING_UNSUPPORTED)
    assert (error.code, error.msg) == (106, "Trunking not supported on instance type")
    assert failure("SomethingNew", "x").code == Code.TRY_AGAIN
    assert failure("SomethingNew", "x").msg == "SomethingNew"


@pytest.mark.parametrize("version", [*SUPPORTED, "0.2.0", "9.9.9"])
def test_one_object_in_the_version_asked_for(version: str) -> None:
    text = CniError(11, 'a "quoted"\nline', "tab\té\ud800").encode(version)
    assert text.isascii()
    assert text.count(b"\n") == 1
    assert json.loads(text) == {
        "cniVersion": version,
        "code": 11,
        "msg": 'a "quoted"\nline',
        "details": "tab\té\ud800",
    }


@pytest.mark.parametrize("named", ["", None, 3, "1.0.0\n", "x y", "1" * 32])
def test_a_version_that_is_none_is_not_echoed(named: object) -> None:
    assert json.loads(CniError(6, "m").encode(named))["cniVersion"] == "1.0.0"


def test_incompatible() -> None:
    error = incompatible("", supported=["1.1.0"], for_what="GC")
    assert (error.code, error.details) == (1, 'config is "0.1.0", plugin supports for GC: 1.1.0')
    assert len(incompatible("x" * 100_000).details) < 300
