"""``terway-cli ledger``: what an operator does with it before the release before is installed."""

from __future__ import annotations

import argparse
from typing import Any

from control.cli.client import Daemon
from control.cli.words import Words


def add_words(words: Words) -> None:
    group = words.group("ledger", "The node's ledger of addresses and pods.", "ledger downgrade")
    text = (
        "Write the ledger for the release before, which refuses this release's. The agent serves on, and "
        "brings it up to date again if it is started anew."
    )
    group.add("downgrade", _downgrade, text, "downgrade")


def _downgrade(daemon: Daemon, _args: argparse.Namespace) -> tuple[Any, str]:
    answer = daemon.call("POST", "ledger", "downgrade")
    return answer, (
        f"the ledger is now written in schema {answer['schema']}: install the release before; a restart of "
        "this one brings it up to date again"
    )
