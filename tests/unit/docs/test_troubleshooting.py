"""docs/troubleshooting.md names every cause and what the code makes of the cloud's codes, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from control.aliyun.errors import Refusal, cause_of
from control.ipam.rejections import FIRST_HOLD_OFF, MAX_HOLD_OFF
from control.model.errors import TEMPORARY, Cause

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "troubleshooting.md").read_text()
_ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \|", re.MULTILINE)
_LINK = re.compile(r"\(([\w./]+\.md)#([\w-]+)\)")
FIRST_ROW, BY_ITSELF = (PAGE.index(f"### Causes that {w}") for w in ("somebody has", "go by themselves"))
ROWS = [(found[1], found[2], found.start() > BY_ITSELF) for found in _ROW.finditer(PAGE, FIRST_ROW)]


def test_every_cause_has_a_row_under_the_heading_that_fits() -> None:
    assert {name for name, _, _ in ROWS} == set(Cause)
    by_itself = {Cause(name) for name, _, passing in ROWS if passing}
    assert by_itself >= TEMPORARY


@pytest.mark.parametrize(("name", "codes"), [(n, c) for n, c, _ in ROWS if not c.startswith("none")])
def test_codes_of_a_row_have_its_cause(name: str, codes: str) -> None:
    assert {cause_of(Refusal(code=code, status=400)) for code in codes.split(", ")} == {Cause(name)}


def test_times_are_those_of_the_code() -> None:
    assert f"which is {FIRST_HOLD_OFF:.0f} s after the first refusal and at most {MAX_HOLD_OFF:.0f} s" in PAGE


def test_links_lead_to_headings() -> None:
    links = _LINK.findall(PAGE)
    assert links
    for file, anchor in links:
        headings = re.findall(r"^#+ (.*)$", (DOCS / file).read_text(), re.MULTILINE)
        made = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in made, f"{file}#{anchor}"
