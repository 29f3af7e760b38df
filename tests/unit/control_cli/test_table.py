"""Tables: aligned, within the width, and readable where they cannot be."""

from __future__ import annotations

from control.cli.table import WIDTH, table


def test_columns_are_aligned_and_numbers_stand_at_the_right() -> None:
    text = table(("NAME", "ROWS", "PIN"), [("endpoints", 4, "/a"), ("pods", 1024, "")])
    assert text.splitlines() == [
        "NAME       ROWS  PIN",
        "endpoints     4  /a",
        "pods       1024  -",
    ]


def test_a_long_last_column_goes_on_below_itself() -> None:
    text = table(("A", "TEXT"), [("one", "word " * 40), ("two", "short")])
    lines = text.splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    assert len(lines) > 3
    assert lines[2].startswith("     word")
    assert lines[-1] == "two  short"


def test_what_is_too_wide_becomes_a_paragraph_per_row() -> None:
    heads = ("KEY", *(f"field_{i}" for i in range(6)))
    text = table(heads, [("2001:db8::1", *("x" * 30 for _ in range(6)))])
    lines = text.splitlines()
    assert lines[0] == "2001:db8::1"
    assert all(len(line) <= WIDTH for line in lines)
    assert all(f"field_{i} {'x' * 30}" in " ".join(text.split()) for i in range(6))


def test_no_rows_is_the_heads_alone() -> None:
    assert table(("A", "B"), []) == "A  B"
