"""Snapshots in order of time."""

from __future__ import annotations

import pytest

from lab.cloud.history import TOLERANCE, History


def _history() -> History[str]:
    history: History[str] = History()
    history.put(10.0, "a")
    history.put(20.0, "b")
    history.put(30.0, None)
    return history


def test_what_was_true_at_a_time() -> None:
    history = _history()
    assert [history.at(t) for t in (9.0, 10.0, 19.0, 20.0, 29.0, 30.0)] == [None, "a", "a", "b", "b", None]


def test_the_next_change() -> None:
    history = _history()
    assert [history.next_after(t) for t in (0.0, 10.0, 25.0, 30.0)] == [10.0, 20.0, 30.0, None]


def test_two_snapshots_of_one_moment_leave_the_second() -> None:
    history: History[str] = History()
    history.put(10.0, "a")
    history.put(10.0, "b")
    assert history.at(10.0) == "b"


def test_the_past_cannot_be_changed_but_forgotten() -> None:
    history = _history()
    with pytest.raises(ValueError, match="goes forward"):
        history.put(29.0, "c")
    assert not history.forget_before(25.0)
    assert (history.at(25.0), history.at(15.0)) == ("b", None)
    assert history.forget_before(31.0)


def test_rewriting_shows_at_every_time_after() -> None:
    history = _history()
    history.rewrite(float("-inf"), "c")
    assert (history.at(0.0), history.next_after(0.0)) == ("c", None)


def test_a_rounding_error_hides_nothing() -> None:
    """now - delay, for the very now at which a change is due, may come out a little before the change."""
    since, delay = 1_795_439_045.547, 0.05
    history: History[str] = History()
    history.put(since, "a")
    due = since + delay
    assert abs((due - delay) - since) < TOLERANCE
    assert history.at(due - delay) == "a"
    assert history.next_after(due - delay) is None


def test_an_amendment_holds_from_now_on() -> None:
    history = _history()
    history.amend(15.0, str.upper)
    assert [history.at(t) for t in (10.0, 14.0, 15.0, 20.0, 30.0)] == ["a", "a", "A", "B", None]
    history.amend(40.0, str.lower)
    assert history.at(40.0) is None
    history.amend(20.0, str.lower)
    assert [history.at(t) for t in (19.0, 20.0, 30.0)] == ["A", "b", None]


def test_what_is_seen_by_the_tolerance_can_be_written_after() -> None:
    """A clock may miss the time of a change by a rounding error: what a write read, it may follow."""
    history = _history()
    just_before = 30.0 - TOLERANCE / 2
    assert history.at(just_before) is None
    history.put(just_before, "c")
    assert (history.at(30.0), history.at(29.0)) == ("c", "b")
