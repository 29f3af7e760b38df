"""``./run lab node ...``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from lab.cli.table import table
from lab.cli.terminal import attach
from lab.cli.words import Output, Words
from lab.client import Lab
from lab.commands import typed
from lab.messages import LabError
from lab.nodes.node import LabNode
from lab.spec import NodeSpec

_ACTIONS = ("start", "stop", "log")


def declare(words: Words) -> None:
    node = words.group("node", "Work with the nodes: run commands, cut the power, add and remove.")
    node.on_lab("list", _list, "List the nodes.", "--json")
    run = node.on_lab(
        "exec", _exec, "Run a command in all of a node's namespaces.", "node1 -- ip -brief addr"
    )
    run.add_argument("node", metavar="NODE")
    run.add_argument("command", nargs="*", metavar="-- CMD", help="default: a shell")
    for name, act, text in (
        ("reboot", _reboot, "Kill the node and boot it: kernel objects and /run are gone, /var/lib is kept."),
        ("kill", _kill, "Cut the power: the node is off until `node reboot`."),
        ("remove", _remove, "Release the instance, and its node with it."),
    ):
        node.on_lab(name, act, text, "node1").add_argument("node", metavar="NODE")
    add = node.on_lab("add", _add, "Create another instance.", "node3 --instance-type ecs.g7.4xlarge")
    add.add_argument("node", metavar="NODE")
    add.add_argument("--instance-type", default=NodeSpec("x").instance_type, metavar="T")
    add.add_argument("--vswitch", default=NodeSpec("x").vswitch_id, metavar="ID")
    agent = node.on_lab("agent", _agent, "Start or stop terwayd on a node, or show its log.", "node1 start")
    agent.add_argument("node", metavar="NODE")
    agent.add_argument("action", metavar="ACTION", help=f"{', '.join(_ACTIONS)}; may stand before NODE too")


def known(lab: Lab, name: str) -> LabNode:
    """Raises LabError, with the names that there are, for one that no node has."""
    names = [node["name"] for node in lab.status()["nodes"]]
    if name not in names:
        raise LabError(f"no node {name!r} in lab {lab.name!r}; there are {', '.join(names) or 'none'}")
    return lab.node(name)


def command_of(args: argparse.Namespace) -> list[str]:
    return args.command or ["bash"]


def _list(lab: Lab, _args: argparse.Namespace) -> Output:
    nodes = lab.status()["nodes"]
    rows = ((n["name"], "running" if n["running"] else "off", n["instance"], n["address"]) for n in nodes)
    return Output(nodes, table(("NODE", "STATE", "INSTANCE", "ADDRESS"), rows))


def _exec(lab: Lab, args: argparse.Namespace) -> Output:
    node = known(lab, args.node)
    if args.json:
        result = node.exec(command_of(args), timeout=3600.0)
        value = {"status": result.returncode, "stdout": result.stdout, "stderr": result.stderr}
        return Output(value, status=result.returncode)
    return Output(status=attach(node.spawn, command_of(args)))


def _reboot(lab: Lab, args: argparse.Namespace) -> Output:
    node = known(lab, args.node)
    had_agent = node.status()["running"] and node.agent_pid is not None
    node.reboot()
    gone = [pod.key for pod in lab.pods() if pod.node.name == args.node]
    value = {"node": args.node, "running": True, "pods_without_sandbox": gone}
    return Output(
        value, "\n".join((f"{args.node} is up again", *_lost(lab, args.node, gone, had_agent=had_agent)))
    )


def _lost(lab: Lab, node: str, gone: list[str], *, had_agent: bool) -> Iterator[str]:
    """What a reboot took and nobody brings back in a lab without a kubelet."""
    if lab.spec.kubernetes is not None:
        return
    if had_agent or gone:
        yield f"terwayd is off: `{typed(lab.name, f'node agent {node} start')}`"
    if gone:
        yield f"the sandboxes of {', '.join(gone)} are gone: `{typed(lab.name, f'pod del {gone[0]}')}`"


def _kill(lab: Lab, args: argparse.Namespace) -> Output:
    known(lab, args.node).kill()
    return Output({"node": args.node, "running": False}, f"{args.node} is off")


def _add(lab: Lab, args: argparse.Namespace) -> Output:
    spec = NodeSpec(args.node, instance_type=args.instance_type, vswitch_id=args.vswitch)
    node = lab.add_node(spec)
    return Output(node.status(), f"{args.node} is {node.instance_id} with {node.address}")


def _remove(lab: Lab, args: argparse.Namespace) -> Output:
    lab.remove_node(known(lab, args.node).name)
    return Output({"node": args.node}, f"{args.node} is gone")


def _agent(lab: Lab, args: argparse.Namespace) -> Output:
    if args.node in _ACTIONS and args.action not in _ACTIONS:
        args.node, args.action = args.action, args.node
    if args.action not in _ACTIONS:
        raise ValueError(f"{args.action!r} is none of {', '.join(_ACTIONS)}")
    node = known(lab, args.node)
    if args.action == "log":
        try:
            log = node.agent_log()
        except FileNotFoundError:
            raise LabError(f"terwayd has not run on {args.node} yet: it has no log") from None
        return Output({"log": log}, log.rstrip())
    if args.action == "stop":
        if not node.stop_agent():
            raise LabError(f"no terwayd runs on {args.node}")
        return Output({"node": args.node, "agent_pid": None}, f"terwayd on {args.node} has ended")
    node.install_cni()
    if not node.directory.outside("/etc/eni/eni_conf").exists():
        node.write_config()
    process = node.start_agent()
    return Output(
        {"node": args.node, "agent_pid": process.pid}, f"terwayd on {args.node} is pid {process.pid}"
    )
