from __future__ import annotations

import pytest

from control.config.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("+0", 0.0),
        ("30s", 30.0),
        ("1h10m", 4200.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("300ms", 0.3),
        ("1m0.5s", 60.5),
        ("2us", 2e-6),
        ("2µs", 2e-6),
        ("5ns", 5e-9),
        ("1s1s", 2.0),
        ("2562047h", 2562047 * 3600.0),
    ],
)
def test_as_go_reads_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "-1s",
        "30",
        "s",
        ".s",
        "1 s",
        "1s ",
        "1d",
        "1S",
        "1h-5m",
        "x",
        "2562048h",
        "9" * 400 + "s",
        "٣s",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)
