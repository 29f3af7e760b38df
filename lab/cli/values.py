"""Types of options that several commands have. A wrong value is an error of usage, in one sentence."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lab.clock import MOST_SECONDS, check_seconds
from lab.statedir import check_name

LEAST_MTU = 1400
"""ECS has 1500 and 8500. Below this the demonstration's narrow path (1300) would be none."""
MOST_MTU = 8500
"""Jumbo frames of ECS."""


class WrongWordError(ValueError):
    """A word of the line that is none: an error of usage, as argparse's own are."""


def seconds(text: str) -> float:
    try:
        number = float(text)
        check_seconds("time", number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_SECONDS:.0f}") from None
    return number


def lab_name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def mtu(text: str) -> int:
    return _number(text, LEAST_MTU, MOST_MTU)


def from_zero(text: str) -> int:
    return _number(text, 0, 1_000_000)


def _number(text: str, least: int, most: int) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
    return number


def json_file(path: Path) -> Any:
    """What is in it. Raises ValueError that names the file and the place in it, and OSError."""
    try:
        return json.loads(path.read_text())
    except UnicodeDecodeError as exc:
        raise ValueError(f"{path} is no text: byte {exc.start} is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise ValueError(f"{path} is no JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
