"""Rows as an aligned table for a terminal of 120 columns. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 120
_GAP = 2
_LAST_LEAST = 24
"""Columns that the last column wants, before a row is written in several lines instead."""

Cell = str | int | float | None
"""None and "" are drawn as ``-``. Numbers stand at the right."""


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, width: int = WIDTH) -> str:
    """One line per row; the last column goes on below itself if it is too long.

    Where the other columns leave no room for that, each row is a paragraph: the first cell, and below it
    every other one with its head.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    left = width - sum(widths[:-1]) - _GAP * (len(widths) - 1)
    if left < min(widths[-1], _LAST_LEAST):
        return "\n".join(_paragraph(heads, row, width) for row in texts)
    numbers = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(heads))]
    lines = []
    for row in (list(heads), *texts):
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numbers, strict=True)]
        lines += _wrapped((" " * _GAP).join([*cells[:-1], ""]), cells[-1].rstrip(), left)
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    return "-" if cell is None or cell == "" else str(cell)


def _wrapped(start: str, last: str, room: int) -> list[str]:
    pieces = textwrap.wrap(last, max(room, 1), break_on_hyphens=False) or [""]
    return [
        f"{start}{pieces[0]}".rstrip(),
        *(" " * len(start) + piece for piece in pieces[1:]),
    ]


def _paragraph(heads: Sequence[str], row: Sequence[str], width: int) -> str:
    rest = ", ".join(f"{head} {cell}" for head, cell in zip(heads[1:], row[1:], strict=True))
    return f"{row[0]}\n{textwrap.fill(rest, width, initial_indent='  ', subsequent_indent='  ')}"
