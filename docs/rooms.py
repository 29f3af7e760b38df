"""python -m docs.rooms [ROOT]: the table of rooms, with files and lines of each, as ARCHITECTURE.md has it.

ROOT is another tree to count beside this one, e.g. the release before: then there is a column for each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SUFFIXES = (".py", ".c", ".h")
DEEP = frozenset({"control", "control/agent", "datapath", "datapath/modes", "lab", "tests"})
"""Rooms whose packages are rooms of their own. Every other room is counted with all that is below it."""
TOP = ("bpf", "datapath", "control", "cni", "lab", "perf", "deploy", "docs", "tests")


@dataclass(frozen=True, slots=True)
class Size:
    files: int
    lines: int

    def __str__(self) -> str:
        return f"{self.files} files, {self.lines:,} lines" if self.files else "-"


def rooms(root: Path) -> dict[str, Size]:
    """By path below ``root``. What stands beside packages counts for the room that they are in."""
    found: dict[str, Size] = {}
    for top in TOP:
        found |= _rooms(root, root / top)
    return found


def table(trees: Mapping[str, Mapping[str, Size]]) -> str:
    """``trees``: heading to rooms."""
    names = {name for found in trees.values() for name in found}
    lines = [_row(("room", *trees)), _row(["---"] * (1 + len(trees)))]
    for name in sorted(names, key=lambda one: (TOP.index(one.split("/")[0]), one)):
        lines.append(_row([f"`{name}/`", *(str(found.get(name, Size(0, 0))) for found in trees.values())]))
    return "\n".join(lines)


def _rooms(root: Path, directory: Path) -> dict[str, Size]:
    name = directory.relative_to(root).as_posix()
    if name not in DEEP:
        return {name: _size(directory.rglob("*"))} if directory.is_dir() else {}
    found = {name: _size(directory.glob("*"))}
    for below in sorted(one for one in directory.glob("*") if one.is_dir() and one.name != "__pycache__"):
        found |= _rooms(root, below)
    return {room: size for room, size in found.items() if size.files}


def _size(paths: Iterable[Path]) -> Size:
    counts = [path.read_bytes().count(b"\n") for path in paths if path.suffix in SUFFIXES]
    return Size(len(counts), sum(counts))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    trees = {"now": rooms(HERE)}
    if sys.argv[1:]:
        trees = {"before": rooms(Path(sys.argv[1]).resolve()), **trees}
    print(table(trees))
    return 0


if __name__ == "__main__":
    sys.exit(main())
