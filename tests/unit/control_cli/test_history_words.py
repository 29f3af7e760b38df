"""``history`` and ``ledger``: what an operator reads, and what is asked of the agent."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.unit.control_cli.served import run, served

ROWS = [
    {
        "address": "10.0.16.5",
        "since": None,
        "until": 1_700_000_000.5,
        "ended": "replaced",
        "pod": "default/web-0",
        "uid": "u-1",
        "sandbox": "a" * 64,
        "interface": "eth0",
        "mode": "policy_route",
        "eni": "eni-1",
    },
    {
        "address": "10.0.16.5",
        "since": 1_700_000_100.0,
        "until": None,
        "ended": "",
        "pod": "default/web-1",
        "uid": "u-2",
        "sandbox": "b" * 64,
        "interface": "net1",
        "mode": "macvlan",
        "eni": "eni-1",
    },
]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("subject", ["10.0.16.5", "default/web-0", "eni-1", "2001:db8::5"])
def test_history_is_asked_for_as_it_was_typed(tmp_path: Path, subject: str) -> None:
    with served(tmp_path, {f"GET /history/{subject}": ROWS}) as window:
        code, text, _ = window.cli("history", subject)
    assert code == 0
    assert subject in window.asked[0]
    for word in ("before", "2023-11-14 22:13:20", "replaced", "a" * 13, "net1", "now", "macvlan", "u-2"):
        assert word in text, word
    assert "a" * 14 not in text


def test_history_as_json_has_every_field(tmp_path: Path) -> None:
    with served(tmp_path, {"GET /history/10.0.16.5": ROWS}) as window:
        _, text, _ = window.cli("history", "10.0.16.5", "--json")
    assert json.loads(text) == ROWS


def test_nothing_known_is_said(tmp_path: Path) -> None:
    with served(tmp_path, {"GET /history/10.0.16.9": []}) as window:
        code, text, _ = window.cli("history", "10.0.16.9")
    assert (code, "nothing is known of 10.0.16.9" in text) == (0, True)


def test_downgrade_says_what_comes_next(tmp_path: Path) -> None:
    with served(tmp_path, {"POST /ledger/downgrade": {"schema": 1}}) as window:
        code, text, _ = window.cli("ledger", "downgrade")
    assert code == 0
    assert "schema 1" in text
    assert "install the release before" in text


@pytest.mark.parametrize("words", [("history",), ("ledger",), ("ledger", "upgrade")])
def test_a_wrong_word_is_one_line(words: tuple[str, ...]) -> None:
    code, _, error = run(*words)
    assert code == 1
    assert error.count("\n") == 1
