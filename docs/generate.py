"""``python -m docs.generate`` writes the generated parts of ``docs/*.md`` anew; ``--check`` only looks.

A part stands between two comments, ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``. What is between
them is replaced, all else is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from docs import tables

HERE = Path(__file__).resolve().parent
PAGE = HERE / "datapath.md"

Parts = Mapping[str, Callable[[], str]]

PARTS: Parts = {"hooks": tables.hooks, "maps": tables.maps, "reasons": tables.reason_rows}


def renewed(page: str, parts: Parts = PARTS) -> str:
    """The text of a page with its parts written anew.

    Raises ValueError unless the page has every part exactly once, and no other.
    """
    marked = re.findall(r"<!-- generated: (\w+) -->", page)
    if sorted(marked) != sorted(parts):
        raise ValueError(
            f"the page marks {', '.join(marked) or 'nothing'}; it should mark {', '.join(parts)}"
        )
    for name, make in parts.items():
        page = _with_part(page, name, make())
    return page


def _with_part(page: str, name: str, text: str) -> str:
    opening, closing = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = page.partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended:
        raise ValueError(f"part {name} of the page has no end: it takes {closing}")
    return f"{before}{opening}\n{text}\n{closing}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if the page was up to date or was written, 1 if ``--check`` found it stale."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Renew docs/datapath.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if it is stale")
    args = parser.parse_args(argv)
    page = PAGE.read_text()
    new = renewed(page)
    if new == page:
        return 0
    if args.check:
        print("docs/datapath.md is stale: run python -m docs.generate", file=sys.stderr)
        return 1
    PAGE.write_text(new)
    print("docs/datapath.md is renewed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
