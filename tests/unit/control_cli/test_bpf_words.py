"""``fastpath`` and ``bpf`` over a window with canned answers: what is asked, what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.cli.table import WIDTH
from control.model.errors import RequestError
from tests.unit.control_cli.served import Served, run, served

STATUS = {"state": "off", "asked": "on", "because": ["nft table ip x chain y drops", "and another"]}
MAP = {
    "type": "hash",
    "key_bytes": 16,
    "value_bytes": 32,
    "max_entries": 4096,
    "memory_bytes": 459856,
    "id": 7,
}
PROGRAM = {
    "name": "pod_egress",
    "id": 31,
    "tag": "8214f855f2edd1fa",
    "loaded": 1700000000.0,
    "verified_instructions": 11831,
    "jited_bytes": 5944,
}
COUNTS = {
    "fast_out_packets": 12,
    "fast_out_bytes": 1200,
    "fast_in_packets": 11,
    "fast_in_bytes": 1100,
    "stack_packets": 5,
    "dropped_packets": 1,
}
ANSWERS: dict[str, Any] = {
    "GET /fastpath": STATUS,
    "POST /fastpath/on": {"state": "on", "asked": "on", "because": []},
    "POST /fastpath/off": {"state": "off", "asked": "off", "because": ["it was switched off"]},
    "GET /bpf/maps": [
        {"name": "endpoints", "pin": "/sys/fs/bpf/terway/v1/endpoints", "entries": 4, **MAP},
        {"name": "trace", "pin": "/sys/fs/bpf/terway/v1/trace", **MAP, "entries": None, "type": "ringbuf"},
    ],
    "GET /bpf/map/enis": [
        {"key": 3, "value": {"mac": "00:16:3e:00:00:11", "gateway_mac": "", "mtu": 1500, "flags": ["off"]}}
    ],
    "GET /bpf/map/hook_counts": [
        {"key": "pod_egress", "value": {"count": {"fast_local": 2, "fast_eni": 0, "stack_off": 3}}},
        {"key": "eni_ingress", "value": {"count": {"fast_local": 0, "fast_eni": 0, "stack_off": 0}}},
    ],
    "GET /bpf/map/pairs": [{"key": 0, "value": {"noted": [0, 1] * 50}}],
    "GET /bpf/map/none": [],
    "GET /bpf/progs": [
        {
            **PROGRAM,
            "runs": None,
            "run_ns": None,
            "attached": [
                {"device": f"cali{i}", "ifindex": i, "side": "ingress", "how": "block"} for i in range(30)
            ],
        },
        {
            **PROGRAM,
            "name": "eni_ingress",
            "runs": 100,
            "run_ns": 12000,
            "attached": [{"device": "", "ifindex": 9, "side": "ingress", "how": "tcx"}],
        },
    ],
    "GET /bpf/counters": [
        {
            "hook": "pod_egress",
            "reason": "stack_link_scope",
            "class": "stack",
            "packets": 4,
            "text": "The destination never leaves a link: multicast, loopback, unspecified and link-local.",
        }
    ],
    "GET /bpf/endpoints": [
        {
            "pod": "default/web",
            "addresses": ["10.0.0.1", "2001:db8::1"],
            "ifindex": 5,
            "fast": True,
            "why": "",
            **COUNTS,
        },
        {"pod": "", "addresses": ["10.0.0.2"], "ifindex": 6, "fast": False, "why": "node off", **COUNTS},
    ],
}
WORDS = ("fastpath", "bpf maps", "bpf map", "bpf progs", "bpf counters", "bpf endpoints", "trace", "bpf")


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, dict(ANSWERS)) as made:
        yield made


def shown(window: Served, *words: str) -> list[str]:
    status, out, err = window.cli(*words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    return lines


@pytest.mark.parametrize("words", [[], ["status"]])
def test_fastpath_says_state_and_reasons(window: Served, words: list[str]) -> None:
    assert shown(window, "fastpath", *words) == [
        "fast path: off (asked: on)",
        "  because nft table ip x chain y drops",
        "  because and another",
    ]
    assert window.asked == ["GET /fastpath"]


def test_fastpath_is_switched(window: Served) -> None:
    assert shown(window, "fastpath", "on") == ["fast path: on (asked: on)"]
    assert shown(window, "fastpath", "off") == [
        "fast path: off (asked: off)",
        "  because it was switched off",
    ]
    assert window.asked == ["POST /fastpath/on", "POST /fastpath/off"]
    assert json.loads(window.cli("fastpath", "--json")[1]) == STATUS


def test_maps(window: Served) -> None:
    head, endpoints, trace = shown(window, "bpf", "maps")
    assert head.split() == ["NAME", "TYPE", "KEY", "VALUE", "ROWS", "MAX", "KIB", "PIN"]
    pin = "/sys/fs/bpf/terway/v1/endpoints"
    assert endpoints.split() == ["endpoints", "hash", "16", "32", "4", "4096", "449", pin]
    assert trace.split()[4] == "-"


def test_rows_of_a_map_have_a_column_for_each_field(window: Served) -> None:
    assert [line.split() for line in shown(window, "bpf", "map", "enis")] == [
        ["KEY", "mac", "gateway_mac", "mtu", "flags"],
        ["3", "00:16:3e:00:00:11", "-", "1500", "off"],
    ]


def test_counts_of_a_map_leave_zeros_out_and_say_so(window: Served) -> None:
    assert shown(window, "bpf", "map", "hook_counts") == [
        "KEY         count",
        "pod_egress  fast_local 2, stack_off 3",
        "1 rows that are all zero are not shown; --json has them",
    ]
    status, out, _ = window.cli("bpf", "map", "hook_counts", "--json")
    assert (status, json.loads(out)) == (0, ANSWERS["GET /bpf/map/hook_counts"])
    assert shown(window, "bpf", "map", "none") == ["no rows"]
    assert "50 of 100 are not zero" in shown(window, "bpf", "map", "pairs")[1]


def test_programs(window: Served) -> None:
    text = "\n".join(shown(window, "bpf", "progs"))
    words = " ".join(text.split())
    assert "8214f855f2edd1fa" in text
    assert "cali0, cali1, cali2, cali3 and 26 more" in words
    assert "ingress of device 9 (tcx)" in words
    assert " 100 120 " in words, "runs, and nanoseconds of one"
    assert "bpf_stats_enabled" in text


def test_counters_explain_themselves(window: Served) -> None:
    head, *rest = shown(window, "bpf", "counters")
    assert head.split() == ["HOOK", "REASON", "PACKETS", "MEANING"]
    (row,) = ANSWERS["GET /bpf/counters"]
    assert " ".join(" ".join(rest).split()) == f"pod_egress stack_link_scope 4 {row['text']}"


def test_endpoints(window: Served) -> None:
    _, web, other = shown(window, "bpf", "endpoints")
    counts = ["12", "1200", "11", "1100", "5", "1", "0"]
    assert web.split() == ["default/web", "fast", *counts, "10.0.0.1", "2001:db8::1"]
    assert other.split() == ["device", "6", "stack", "(node", "off)", *counts, "10.0.0.2"]


def test_nothing_yet_is_said(window: Served) -> None:
    window.answers |= {"GET /bpf/counters": [], "GET /bpf/endpoints": []}
    assert shown(window, "bpf", "counters") == ["no packets yet"]
    assert shown(window, "bpf", "endpoints") == ["no pod has a row in the fast path's map"]


def test_a_refusal_is_one_line(window: Served) -> None:
    window.answers["GET /bpf/maps"] = RequestError("there is no fast path", remedy="see terway-cli fastpath")
    told = "terway-cli: there is no fast path; see terway-cli fastpath\n"
    assert window.cli("bpf", "maps") == (1, "", told)


@pytest.mark.parametrize("words", [["bpf"], ["bpf", "nothing"], ["bpf", "map"], ["fastpath", "maybe"]])
def test_a_wrong_word_is_one_line(words: list[str]) -> None:
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("terway-cli: ")
    assert f"terway-cli {words[0]}" in err


def test_a_daemon_that_is_down_is_said_and_what_to_do(tmp_path: Path) -> None:
    status, out, err = run("--socket", f"unix://{tmp_path}/none", "bpf", "maps")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "cannot reach terwayd" in err
    assert "bpftool map dump pinned /sys/fs/bpf/terway/" in err


@pytest.mark.parametrize("word", WORDS)
def test_help_has_an_example(word: str) -> None:
    status, out, _ = run(*word.split(), "--help")
    assert status == 0
    assert f"example: terway-cli {word}" in " ".join(out.split())
