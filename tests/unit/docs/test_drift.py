"""docs/drift.md names tests and alterations that exist, and its table has every alteration."""

from __future__ import annotations

import re
from pathlib import Path

from perf.drift.catalogue import CATALOGUE
from tests.drift.not_mended import NOT_MENDED

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/drift.md").read_text()
HELD = PAGE.partition("## Which test fails without which repair")[2].partition("\n## ")[0]
SEEN = PAGE.partition("## What was seen")[2]


def rows(part: str) -> dict[str, list[str]]:
    """By the first column."""
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines[1:]}


def test_each_instance_is_held_by_a_test_that_exists() -> None:
    assert len(rows(HELD)) > 15
    for instance, cells in rows(HELD).items():
        if set(instance) <= {"-"}:
            continue
        named = re.findall(r"`([^`]+)`", cells[-1])
        assert named, instance
        for name in named:
            path, _, test = name.partition("::")
            assert f"def {test}(" in (ROOT / path).read_text() if test else path in CATALOGUE, name


def test_each_alteration_has_its_line_and_what_is_not_put_back_says_so() -> None:
    seen = rows(SEEN)
    assert CATALOGUE.keys() <= seen.keys()
    for name in NOT_MENDED:
        assert "no" in seen[name], name
