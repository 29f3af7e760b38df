"""The table of the datapath: which ratio stands where, and what is said when a peer is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf import datapath, plugins
from perf.paths import Way
from perf.series import Series

WAYS = [
    Way("loopback", 1, 1, "127.0.0.1"),
    Way("fast path", 1, 2, "10.0.1.2"),
    Way("fast path, off node", 1, 3, "203.0.113.10", near=False),
    Way("routed, off node", 4, 5, "203.0.113.10", near=False),
]


def series() -> Series:
    """Round trips of 10, 11, 12 and 15 us, streams of 10 and 9 Gb/s; each in three rounds that differ."""
    found = Series()
    for factor in (1.0, 2.0, 4.0):
        for way, microseconds in zip(WAYS, (10, 11, 12, 15), strict=True):
            found.add("rr", way.name, 1e6 / microseconds / factor)
        for way, gigabits in zip(WAYS[:2], (10, 9), strict=True):
            found.add("stream", way.name, gigabits * 1e9 / 8 / factor)
    return found


def test_a_ratio_is_of_times_and_for_streams_of_rates() -> None:
    rows = {row[:2]: row[2:] for row in datapath.table_rows(WAYS, series())}
    assert list(rows) == [("TCP_RR", way.name) for way in WAYS] + [
        ("TCP_STREAM", "loopback"),
        ("TCP_STREAM", "fast path"),
    ]
    assert rows["TCP_RR", "fast path"] == ("22.00 us", "1.100 (1.100 to 1.100)", "", "")
    assert rows["TCP_STREAM", "fast path"] == ("4.50 Gb/s", "0.900 (0.900 to 0.900)", "", "")


def test_a_path_off_the_node_is_compared_with_its_own_kind() -> None:
    rows = {row[:2]: row[2:] for row in datapath.table_rows(WAYS, series())}
    assert rows["TCP_RR", "fast path, off node"][1:] == (
        "1.200 (1.200 to 1.200)",
        "0.800 (0.800 to 0.800)",
        "",
    )


def test_markdown_has_a_cell_for_every_column() -> None:
    lines = list(datapath.markdown("kernel 6.18", list(datapath.table_rows(WAYS, series()))))
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(WAYS) + 2
    assert {line.count("|") for line in table} == {7}
    assert lines[0].startswith("Kernel 6.18.")


def test_missing_plugins_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ptp", "host-local"):
        (tmp_path / name).touch()
    assert plugins.missing(tmp_path) == ("bridge",)
    monkeypatch.setattr(plugins, "DIRECTORY", tmp_path)
    assert "without bridge and ptp, as containernetworking-plugins" in datapath.where("2 rounds")
    (tmp_path / "bridge").touch()
    assert "without" not in datapath.where("2 rounds")
