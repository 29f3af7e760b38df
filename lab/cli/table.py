"""Tables and times for people: a header, columns as wide as their longest cell, two blanks between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """One line per row; "-" for None and "". Just the header if there is no row."""
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def utc(seconds: float) -> str:
    """``2026-11-30 09:15:02 UTC``, of seconds since the epoch."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def counted(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def few(addresses: Sequence[str]) -> str:
    """Two of them at most, and how many of each family there are."""
    if len(addresses) <= 2:
        return ",".join(addresses)
    v6 = sum(":" in address for address in addresses)
    counts = ((len(addresses) - v6, "IPv4"), (v6, "IPv6"))
    return f"{addresses[0]} ({', '.join(f'{count} {family}' for count, family in counts if count)})"


def _text(cell: object) -> str:
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, list | tuple):
        return ",".join(map(str, cell)) or "-"
    return str(cell)
