"""How a command of ``terway-lab`` is declared: its words, its help, its arguments, and what runs it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.client import Lab
from lab.statedir import CLUSTER, DEFAULT_NAME, LabDir


@dataclass(frozen=True, slots=True)
class Output:
    """``value`` is printed with --json, ``text`` without; ``status`` is the exit status."""

    value: Any = None
    text: str = ""
    status: int = 0


Run = Callable[[argparse.Namespace], Output]
OnLab = Callable[[Lab, argparse.Namespace], Output]


class Words:
    """A level of words below ``terway-lab``. Every command has --name, --json and an example."""

    def __init__(self, parser: argparse.ArgumentParser, prefix: str) -> None:
        self._words = parser.add_subparsers(dest=f"word {prefix}", required=True, metavar="WORD")
        self._prefix = prefix

    def group(self, name: str, text: str) -> Words:
        parser = self._words.add_parser(name, help=text, description=text)
        return Words(parser, f"{self._prefix} {name}")

    def command(self, name: str, run: Run, text: str, example: str) -> argparse.ArgumentParser:
        """``example`` is what follows the command's own words."""
        parser = self._words.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example: {self._prefix} {name} {example}".rstrip(),
        )
        parser.add_argument(
            "--name", help=f"the lab's name (default: {DEFAULT_NAME}, else {CLUSTER} if it is up)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON value")
        parser.set_defaults(run=run)
        return parser

    def on_lab(self, name: str, run: OnLab, text: str, example: str) -> argparse.ArgumentParser:
        """A command that needs a running lab."""
        return self.command(name, lambda args: run(Lab.attach(name_of(args)), args), text, example)


def name_of(args: argparse.Namespace) -> str:
    """Of the lab that is meant: --name, else the usual one, else the cluster if that alone is there."""
    if args.name is not None:
        return str(args.name)
    only_cluster = LabDir.of(CLUSTER).root.exists() and not LabDir.of(DEFAULT_NAME).root.exists()
    return CLUSTER if only_cluster else DEFAULT_NAME


def pairs(words: list[str]) -> dict[str, Any]:
    """``key=value`` words as a dictionary; a value that reads as JSON is one, another is a string.

    Raises ValueError for a word without "=".
    """
    result: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is not KEY=VALUE")
        try:
            result[key] = json.loads(value)
        except ValueError:
            result[key] = value
    return result
