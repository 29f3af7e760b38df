"""How long what was refused is left alone, how many are asked for next, and that neither is for ever."""

from __future__ import annotations

from control.ipam.rejections import (
    BATCH_LIMIT_LASTS,
    CREATION,
    EVERYTHING,
    FIRST_HOLD_OFF,
    MAX_HOLD_OFF,
    MAX_REJECTIONS,
    Rejections,
    Scope,
    ScopeKind,
    of_eni,
    of_uplink,
    of_vswitch,
)
from control.ipam.sizing import BATCH
from control.model.errors import Cause, CloudError, KernelError
from control.model.ids import EniId, VSwitchId

FULL = CloudError("full", cause=Cause.VSWITCH_FULL, action="AssignPrivateIpAddresses")
AWAY = CloudError("away", cause=Cause.UNREACHABLE, action="AssignPrivateIpAddresses")
VSWITCH = of_vswitch(VSwitchId("vsw-1"))


def test_refusals_in_a_row_wait_longer_and_one_after_a_long_peace_begins_anew() -> None:
    """Nothing clears a vSwitch's hold-off: full for an hour last week must not cost half a minute today."""
    table, now = Rejections(), 1000.0
    for _ in range(10):
        now = table.hold_off(VSWITCH, FULL, now).until
    assert table.hold_off(VSWITCH, FULL, now).seconds == MAX_HOLD_OFF
    assert table.hold_off(VSWITCH, FULL, now + 10 * MAX_HOLD_OFF).seconds == FIRST_HOLD_OFF


def test_another_cause_begins_anew_and_so_does_a_refusal_after_a_success() -> None:
    table = Rejections()
    assert table.hold_off(VSWITCH, FULL, 0.0).seconds == FIRST_HOLD_OFF
    assert table.hold_off(VSWITCH, FULL, 1.0).seconds == 2 * FIRST_HOLD_OFF
    assert table.hold_off(VSWITCH, AWAY, 2.0).seconds == FIRST_HOLD_OFF
    table.clear(VSWITCH)
    assert not table.held_off(2.0, VSWITCH)
    assert table.hold_off(VSWITCH, AWAY, 3.0).seconds == FIRST_HOLD_OFF


def test_what_the_cloud_says_of_the_next_try_counts() -> None:
    table = Rejections()
    throttled = CloudError("slow", cause=Cause.THROTTLED, action="Assign", retry_after=0.0)
    conflict = CloudError("busy", cause=Cause.CONFLICT, action="Assign")
    assert table.hold_off(CREATION, throttled, 0.0).seconds == 0.1
    assert table.hold_off(CREATION, conflict, 0.0).seconds == 1.0


def test_a_batch_limit_halves_nothing_but_the_number_and_doubles_with_each_answer() -> None:
    table = Rejections()
    table.limit_batch(VSWITCH, FULL, 0.0)
    assert not table.held_off(0.0, VSWITCH), "one may be asked for at once"
    assert table.batch_limit(0.0, CREATION, VSWITCH) == 1
    assert table.limited(0.0, ScopeKind.VSWITCH) == {"vsw-1"}
    for asked, limit in ((1, 2), (1, 2), (2, 4), (4, 8), (8, BATCH)):
        table.batch_answered(VSWITCH, asked)
        assert table.batch_limit(0.0, VSWITCH) == limit
    assert not table.limited(0.0, ScopeKind.VSWITCH)


def test_a_batch_limit_outlasts_a_hold_off_and_an_answer_and_ends_by_itself() -> None:
    table = Rejections()
    table.limit_batch(VSWITCH, FULL, 0.0)
    held = table.hold_off(VSWITCH, FULL, 1.0)
    assert (held.seconds, held.batch_limit) == (FIRST_HOLD_OFF, 1)
    table.clear(VSWITCH)
    assert table.batch_limit(2.0, VSWITCH) == 1
    assert table.batch_limit(BATCH_LIMIT_LASTS, VSWITCH) == BATCH


def test_the_table_is_bounded_and_what_is_long_over_is_forgotten() -> None:
    """ENIs come and go: a row each, for as long as the daemon runs, would be a leak."""
    table = Rejections()
    for i in range(1000):
        table.hold_off(of_eni(EniId(f"eni-{i}")), FULL, i * 10.0)
    assert len(table) < 50
    for i in range(1000):
        table.hold_off(of_eni(EniId(f"eni-{i}")), FULL, 10_000.0)
        table.limit_batch(of_vswitch(VSwitchId(f"vsw-{i}")), FULL, 10_000.0)
    assert len(table) <= MAX_REJECTIONS
    assert table.held_off(10_000.0, of_eni(EniId("eni-999"))), "the newest are kept"


def test_a_pod_is_told_what_the_cloud_said_last_and_never_why_something_is_not_given_back() -> None:
    table = Rejections()
    broken = KernelError("packets go astray")
    table.hold_off(Scope(ScopeKind.RELEASE, "eni-1"), AWAY, 0.0)
    assert table.latest(0.0) is None
    table.hold_off(of_uplink(EniId("eni-1")), broken, 0.0)
    latest = table.latest(0.0)
    assert latest is not None
    assert latest.error is broken
    table.hold_off(VSWITCH, FULL, 0.0)
    table.hold_off(of_uplink(EniId("eni-2")), broken, 0.0)
    latest = table.latest(0.0)
    assert latest is not None
    assert latest.error is FULL


def test_an_operator_reads_ids_where_they_tell_and_words_where_not() -> None:
    eni = EniId("eni-1")
    scopes = (of_eni(eni), VSWITCH, CREATION, EVERYTHING, of_uplink(eni), Scope(ScopeKind.RELEASE, eni))
    assert list(map(str, scopes)) == [
        "eni-1",
        "vsw-1",
        "creation of an ENI",
        "every call",
        "pods on ENI eni-1",
        "release of eni-1",
    ]
