"""The grammar of terway-cli: words with a line of help and an example each, errors in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from control.cli.client import CliError, Daemon

Command = Callable[[Daemon, argparse.Namespace], "tuple[Any, str] | None"]
"""The answer as JSON and as text, None if it has been printed."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong as every other failure is said: in one line, with exit status 1."""

    def error(self, message: str) -> NoReturn:
        raise CliError(f"{message}; `{self.prog} --help` shows the words")


class Words:
    """What may come at one place of the line. ``path``: what came before, for the examples."""

    def __init__(self, parser: argparse.ArgumentParser, path: str = "terway-cli") -> None:
        self._words = parser.add_subparsers(required=True, metavar="WORD", parser_class=Parser)
        self._path = path

    def add(self, name: str, run: Command, text: str, example: str) -> argparse.ArgumentParser:
        """A word that ``run`` answers. ``example`` is the line from the word on."""
        made = self._made(name, text, example)
        made.add_argument("--json", action="store_true", help="print the answer as JSON")
        made.set_defaults(run=run)
        return made

    def group(self, name: str, text: str, example: str) -> Words:
        """A word that others follow."""
        return Words(self._made(name, text, example), f"{self._path} {name}")

    def _made(self, name: str, text: str, example: str) -> argparse.ArgumentParser:
        epilog = f"example: {self._path} {example}"
        return self._words.add_parser(name, help=text, description=text, epilog=epilog)
