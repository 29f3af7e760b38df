"""docs/datapath.md explains each reason of the guard by the guard's own words."""

from __future__ import annotations

from pathlib import Path

from datapath.enforcement.guard.ruleset import MEANINGS

_PAGE = Path(__file__).resolve().parents[3] / "docs" / "datapath.md"


def test_every_reason_is_explained() -> None:
    page = _PAGE.read_text()
    for reason, meaning in MEANINGS.items():
        assert f"| `{reason}` | {meaning} |" in page, reason
