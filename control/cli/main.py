"""The words of terway-cli. Exit status 0, or 1 with one line on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from control.cli import bpf, history, ledger, render, trace
from control.cli.client import CliError, Daemon
from control.cli.version import VERSION
from control.cli.words import Parser, Words

DEFAULT_SOCKET = "unix:///var/run/eni/eni_debug.socket"


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


def _repairs(daemon: Daemon, _args: argparse.Namespace) -> tuple[Any, str]:
    answer = daemon.get("repairs")
    return answer, render.value_tree(answer)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="terway-cli", description="Look into the terwayd of this node: its pool, its ENIs, its pods."
    )
    parser.add_argument(
        "--socket",
        default=os.environ.get("TERWAY_DEBUG_SOCKET", DEFAULT_SOCKET),
        help="where terwayd listens: unix:///PATH or HOST:PORT (default %(default)s)",
    )
    parser.add_argument("--version", action="version", version=f"terway-cli {VERSION}")
    words = Words(parser)
    listed = words.add("list", _list, "List resource types, or the resources of a type.", "list factory")
    listed.add_argument("type", nargs="?")
    show = words.add(
        "show", _show, "Show a resource: configuration and state as a tree.", "show resource_pool"
    )
    show.add_argument("type")
    show.add_argument("name", nargs="?", help="default: the type's first resource")
    words.add("mapping", _mapping, "Which pod holds which address of which ENI.", "mapping")
    execute = words.add(
        "execute",
        _execute,
        "Run a resource's command: mapping, audit, resdb.",
        "execute network_service default resdb",
    )
    execute.add_argument("type")
    execute.add_argument("resource")
    execute.add_argument("command_name", metavar="command")
    execute.add_argument("arguments", nargs="*")
    words.add("metadata", _metadata, "What the instance metadata service says of each ENI.", "metadata")
    words.add("mode", _mode, "Which network mode was asked for, which is in force, and why.", "mode")
    words.add("repairs", _repairs, "What another hand changed on this node and was put back.", "repairs")
    history.add_words(words)
    ledger.add_words(words)
    bpf.add_words(words)
    trace.add_words(words)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
        answer = args.run(Daemon(args.socket), args)
        if answer is not None:
            value, text = answer
            print(json.dumps(value) if args.json else text)
        sys.stdout.flush()
    except CliError as exc:
        print(f"terway-cli: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read has seen enough. Python would flush once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
