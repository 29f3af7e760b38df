"""The words of terway-cli. Exit status 0, or 1 with one line on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from control.cli import render
from control.cli.client import CliError, Daemon

DEFAULT_SOCKET = "unix:///var/run/eni/eni_debug.socket"

Command = Callable[[Daemon, argparse.Namespace], tuple[Any, str]]
"""The answer as JSON and as text."""


def _list(daemon: Daemon, args: argparse.Namespace) -> tuple[Any, str]:
    names = daemon.get("resources", *([args.type] if args.type else []))
    return names, render.bullets(names)


def _show(daemon: Daemon, args: argparse.Namespace) -> tuple[Any, str]:
    answer = daemon.get("resources", args.type, "show", **({"name": args.name} if args.name else {}))
    return answer, render.tree(render.pairs_tree(answer["config"]))


def _mapping(daemon: Daemon, _args: argparse.Namespace) -> tuple[Any, str]:
    answer = daemon.get("mapping")
    return answer, render.mapping_tree(answer)


def _execute(daemon: Daemon, args: argparse.Namespace) -> tuple[Any, str]:
    lines = daemon.get("execute", args.type, args.resource, args.command_name, *args.arguments)
    return lines, "\n".join(lines)


def _metadata(daemon: Daemon, _args: argparse.Namespace) -> tuple[Any, str]:
    answer = daemon.get("metadata")
    return answer, render.metadata_tree(answer)


def _mode(daemon: Daemon, _args: argparse.Namespace) -> tuple[Any, str]:
    answer = daemon.get("mode")
    return answer, render.value_tree(answer)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as every other failure is said: in one line, with exit status 1."""

    def error(self, message: str) -> NoReturn:
        raise CliError(f"{message}; `{self.prog} --help` shows the words")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="terway-cli", description="Look into the terwayd of this node: its pool, its ENIs, its pods."
    )
    parser.add_argument(
        "--socket",
        default=os.environ.get("TERWAY_DEBUG_SOCKET", DEFAULT_SOCKET),
        help="where terwayd listens: unix:///PATH or HOST:PORT (default %(default)s)",
    )
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")

    def word(name: str, run: Command, text: str, example: str) -> argparse.ArgumentParser:
        sub = words.add_parser(name, help=text, description=text, epilog=f"example: terway-cli {example}")
        sub.add_argument("--json", action="store_true", help="print the answer as one JSON value")
        sub.set_defaults(run=run)
        return sub

    word("list", _list, "List resource types, or the resources of a type.", "list factory").add_argument(
        "type", nargs="?"
    )
    show = word("show", _show, "Show a resource: configuration and state as a tree.", "show resource_pool")
    show.add_argument("type")
    show.add_argument("name", nargs="?", help="default: the type's first resource")
    word("mapping", _mapping, "Which pod holds which address of which ENI.", "mapping")
    execute = word(
        "execute",
        _execute,
        "Run a resource's command: mapping, audit, resdb.",
        "execute network_service default resdb",
    )
    execute.add_argument("type")
    execute.add_argument("resource")
    execute.add_argument("command_name", metavar="command")
    execute.add_argument("arguments", nargs="*")
    word("metadata", _metadata, "What the instance metadata service says of each ENI.", "metadata")
    word("mode", _mode, "Which network mode was asked for, which is in force, and why.", "mode")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
        value, text = args.run(Daemon(args.socket), args)
    except CliError as exc:
        print(f"terway-cli: {exc}", file=sys.stderr)
        return 1
    print(json.dumps(value) if args.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
