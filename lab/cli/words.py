"""How a command of ``./run lab`` is declared: its words, its help, its arguments, and what runs it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.cli.values import WrongWordError, lab_name
from lab.client import Lab
from lab.messages import LabError
from lab.ownership import own_labs, owner_of
from lab.statedir import DEFAULT_NAME, LabDir

PROGRAM = "./run lab"


@dataclass(frozen=True, slots=True)
class Output:
    """``value`` is printed with --json, ``text`` without; ``status`` is the exit status."""

    value: Any = None
    text: str = ""
    status: int = 0


Run = Callable[[argparse.Namespace], Output]
OnLab = Callable[[Lab, argparse.Namespace], Output]


class Words:
    """A level of words below ``./run lab``. Every command has --name, --json and an example."""

    def __init__(self, parser: argparse.ArgumentParser, prefix: str) -> None:
        self._words = parser.add_subparsers(dest=f"word {prefix}", required=True, metavar="WORD")
        self._prefix = prefix

    def group(self, name: str, text: str) -> Words:
        parser = self._words.add_parser(name, help=text, description=text)
        return Words(parser, f"{self._prefix} {name}")

    def command(
        self, name: str, run: Run, text: str, example: str, notes: str = ""
    ) -> argparse.ArgumentParser:
        """``example`` is what follows the command's own words; ``notes`` stand below it, as they are."""
        parser = self._words.add_parser(
            name,
            help=text,
            description=text,
            epilog="\n\n".join(filter(None, (f"example: {self._prefix} {name} {example}".rstrip(), notes))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--name",
            type=lab_name,
            help=f"the lab's name (default: {DEFAULT_NAME}, or the only lab of this clone that is up)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON value")
        parser.set_defaults(run=run)
        return parser

    def on_lab(
        self, name: str, run: OnLab, text: str, example: str, notes: str = ""
    ) -> argparse.ArgumentParser:
        """A command that needs a running lab."""

        def attached(args: argparse.Namespace) -> Output:
            return run(Lab.attach(name_of(args)), args)

        return self.command(name, attached, text, example, notes)


def name_of(args: argparse.Namespace) -> str:
    """Of the lab that is meant: --name, else the usual one, else the only one that this clone has up.

    Raises LabError if it has several, or none where the usual name is another clone's. Labs of others are
    meant by name only.
    """
    if args.name is not None:
        return str(args.name)
    there = own_labs()
    usual = owner_of(LabDir.of(DEFAULT_NAME))
    if not there and usual is not None:
        raise LabError(
            f"this clone has no lab up; lab {DEFAULT_NAME!r} is {usual}: say --name {DEFAULT_NAME} for it"
        )
    if DEFAULT_NAME in there or not there:
        return DEFAULT_NAME
    if len(there) > 1:
        raise LabError(f"labs {', '.join(there)} are up; say which one with --name")
    return there[0]


def pairs(words: list[str]) -> dict[str, Any]:
    """``key=value`` words as a dictionary; a value that reads as JSON is one, another is a string.

    Raises ValueError for a word without "=".
    """
    result: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise WrongWordError(f"{word!r} is not KEY=VALUE")
        try:
            result[key] = json.loads(value)
        except ValueError:
            result[key] = value
    return result
