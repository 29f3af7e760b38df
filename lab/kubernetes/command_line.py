"""The words of ``./run cluster``: what each is for, its options, and which words are another program's.

``--name`` and ``--json`` stand before the word or behind it. What follows kubectl, shell, or the name of a
node is another program's, and is not read here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from lab.cloud.instance_types import instance_type
from lab.kubernetes import binaries, cluster
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.modes import Mode, mode_of
from lab.spec import IpStack, ProxyMode
from lab.statedir import check_name

_TEXT = (
    "Kubernetes on this machine: etcd, API server, controllers and scheduler are a host of the lab's VPC; "
    "each node is an ECS instance with containerd, kubelet and kube-proxy, whose pods have addresses of its "
    "ENIs. The machine's own network and files stay as they are."
)
_STATUSES = (
    "exit status: 0, that of kubectl or of the command that was run, 1 with one line if something failed, "
    "2 for words that are not understood"
)
_HELP = ("-h", "--help")
_PASSING_ON = ("kubectl", "shell", "node")
_WITH_JSON = ("up", "down", "status", "load")


class UsageError(ValueError):
    """What was typed cannot be meant. Exit status 2."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """With ``command``, the words of another program. Raises UsageError; exits with 2 where argparse does."""
    own, command = split(words)
    top = parser()
    args = top.parse_args(own)
    args.command = command
    if args.json and args.word not in _WITH_JSON:
        top.error(f"{args.word} has no --json; {', '.join(_WITH_JSON)} have")
    if args.word == "node" and not args.node:
        top.error("node wants the NAME of a node")
    try:
        check_name(args.name)
    except ValueError as exc:
        raise UsageError(f"--name: {exc}") from exc
    return args


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own words, with ``up`` where none is said, and those of the program that is to be run."""
    front, rest = _common(words)
    if not rest or (rest[0].startswith("-") and rest[0] not in _HELP):
        return [*front, "up", *rest], []
    word, behind = rest[0], rest[1:]
    if word not in _PASSING_ON:
        return list(words), []
    options, command = _common(behind)
    own = [*front, word, *options]
    if command[:1] and command[0] in _HELP:
        return [*own, "--help"], []
    if word == "node" and command:
        options, rest = _common(command[1:])
        own, command = [*own, *options, command[0]], rest
    return own, command[1:] if command[:1] == ["--"] else command


def _common(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of every word that ``words`` begin with, and what follows."""
    at = 0
    while at < len(words):
        if words[at] == "--name" and at + 1 < len(words):
            at += 2
        elif words[at] == "--json" or words[at].startswith("--name="):
            at += 1
        else:
            break
    return list(words[:at]), list(words[at:])


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="./run cluster", description=_TEXT, epilog=_STATUSES)
    _add_common(top, name=cluster.NAME, json=False)
    words = top.add_subparsers(dest="word", metavar="WORD")

    def word(name: str, text: str, example: str) -> argparse.ArgumentParser:
        sub = words.add_parser(
            name, help=text, description=text, epilog=f"example: ./run cluster {name} {example}".rstrip()
        )
        _add_common(sub, name=argparse.SUPPRESS, json=argparse.SUPPRESS)
        return sub

    _add_up(word("up", "Bring the cluster up, which is the default; it stays until `down`.", "--nodes 3"))
    word("down", "End the cluster and leave nothing behind; no cluster is no error.", "")
    word("status", "Show the options, the nodes and the pods of the cluster that is up.", "--json")
    load = word(
        "load",
        "Load an image of your own into every node; there is no registry to pull it from.",
        "web.tar",
    )
    load.add_argument(
        "archive",
        type=Path,
        metavar="IMAGE.tar",
        help="what `docker save NAME:TAG` writes, or an OCI archive; gzip, bzip2 and xz are undone",
    )
    passing = word(
        "kubectl", "Run kubectl as an administrator. `kubectl help` is kubectl's own.", "get pods -A -o wide"
    )
    passing.add_argument("arguments", nargs="*", metavar="ARG", help="kubectl's words and options")
    shell = word(
        "shell",
        "Start a bash with kubectl, its completion, and helm if that is built.",
        "-c 'kubectl get pods | grep web'",
    )
    shell.add_argument("arguments", nargs="*", metavar="ARG", help="bash's words and options")
    node = word(
        "node",
        "Run a command in a node, by default a shell; terway-cli is there.",
        "node1 terway-cli mapping",
    )
    node.add_argument("node", nargs="?", metavar="NAME", help="of the node, e.g. node1")
    node.add_argument(
        "arguments", nargs="*", metavar="CMD", help="the command with its options (default: bash)"
    )
    return top


def _add_common(words: argparse.ArgumentParser, *, name: str, json: bool | str) -> None:
    words.add_argument(
        "--name",
        default=name,
        help=f"the cluster's name (default: {cluster.NAME}); before the word or behind it",
    )
    words.add_argument(
        "--json", action="store_true", default=json, help=f"print one JSON value ({', '.join(_WITH_JSON)})"
    )


def _add_up(up: argparse.ArgumentParser) -> None:
    usual = Wanted()
    up.add_argument(
        "--nodes", type=int, default=usual.nodes, metavar="N", help="how many (default: %(default)s)"
    )
    up.add_argument(
        "--instance-type",
        default=usual.instance_type,
        metavar="T",
        help="ECS type of the nodes, which says how many ENIs and addresses one has (default: %(default)s)",
    )
    up.add_argument(
        "--max-pods",
        type=int,
        metavar="N",
        help="of each kubelet (default: as many as its node has addresses for)",
    )
    up.add_argument(
        "--ip-stack",
        **_one_of(IpStack),
        default=usual.ip_stack,
        help="families of nodes, Services and pods (default: %(default)s)",
    )
    up.add_argument(
        "--proxy",
        **_one_of(ProxyMode),
        default=usual.proxy,
        help="what kube-proxy writes, or none (default: %(default)s)",
    )
    up.add_argument(
        "--kubernetes", default=binaries.VERSION, metavar="VERSION", help="(default: %(default)s)"
    )
    up.add_argument(
        "--agent",
        **_one_of(Agent),
        default=usual.agent,
        help="how terwayd comes to the nodes (default: %(default)s)",
    )
    up.add_argument(
        "--mode",
        default=str(Mode.POLICY_ROUTE),
        help=f"eniip_virtual_type: {Mode.POLICY_ROUTE} (default) or {Mode.IPVLAN}",
    )
    up.add_argument(
        "--host-ports",
        action="store_true",
        help="pods may have host ports: portmap follows terway in 10-terway.conflist",
    )


def _one_of(kind: type[StrEnum]) -> dict[str, Any]:
    """How an option whose values are those of ``kind`` is declared."""

    def read(text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(kind)}") from None

    return {"type": read, "metavar": f"{{{','.join(kind)}}}"}


def wanted(args: argparse.Namespace) -> Wanted:
    """What the options of ``up`` describe. Raises UsageError."""
    for option, value in (("--nodes", args.nodes), ("--max-pods", args.max_pods)):
        if value is not None and value < 1:
            raise UsageError(f"{option} is {value}, allowed: 1 and more")
    try:
        instance_type(args.instance_type)
        mode = mode_of(args.mode)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    return Wanted(
        nodes=args.nodes,
        instance_type=args.instance_type,
        proxy=args.proxy,
        version=args.kubernetes,
        agent=args.agent,
        mode=mode,
        host_ports=args.host_ports,
        ip_stack=args.ip_stack,
        max_pods=args.max_pods or 0,
        name=args.name,
    )
