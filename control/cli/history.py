"""``terway-cli history``: who has and had an address, a pod's addresses, or what was on an ENI."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from control.cli.client import Daemon
from control.cli.table import table
from control.cli.words import Words

_HEADS = ("ADDRESS", "POD", "FROM", "UNTIL", "ENDED", "MODE", "ENI", "SANDBOX", "UID")
_SANDBOX = 13
"""Characters of a container id that runtimes show."""


def add_words(words: Words) -> None:
    text = "Who has and had an address, when, in which sandbox, and why no longer. Bounded per address."
    word = words.add("history", _history, text, "history 10.0.16.5")
    word.add_argument("subject", metavar="ADDRESS|POD|ENI", help="an address, NAMESPACE/POD, or an ENI's id")


def _history(daemon: Daemon, args: argparse.Namespace) -> tuple[Any, str]:
    rows = daemon.get("history", args.subject)
    if not rows:
        return (
            rows,
            f"nothing is known of {args.subject}: it was never here, or so long ago that it was let go",
        )
    return rows, table(_HEADS, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
    interface = "" if row["interface"] == "eth0" else f" {row['interface']}"
    return [
        row["address"],
        f"{row['pod']}{interface}",
        "before" if row["since"] is None else _stamp(row["since"]),
        "now" if row["until"] is None else _stamp(row["until"]),
        row["ended"],
        row["mode"],
        row["eni"],
        row["sandbox"][:_SANDBOX],
        row["uid"],
    ]


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
