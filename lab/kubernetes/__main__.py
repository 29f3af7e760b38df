"""``./run cluster``: a Kubernetes in the lab's VPC, from up to down."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from datapath.errors import KernelError
from lab.cli.terminal import attach
from lab.client import Lab, take_down
from lab.kubernetes import binaries, cluster, kubectl, options
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.commands import typed
from lab.kubernetes.modes import Mode, mode_of
from lab.kubernetes.readiness import restarted
from lab.messages import LabError
from lab.spec import ProxyMode
from lab.statedir import check_name

_TEXT = (
    "Kubernetes on this machine: etcd, API server, controllers and scheduler are a host of the lab's VPC; "
    "each node is an ECS instance with containerd, kubelet and kube-proxy, whose pods have addresses of its "
    "ENIs. The machine's own network and files stay as they are."
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="./run cluster", description=_TEXT, epilog="example: ./run cluster up --proxy iptables"
    )
    top.add_argument("--name", default=cluster.NAME, help="the cluster's name (default: %(default)s)")
    words = top.add_subparsers(dest="word", metavar="WORD")
    up = words.add_parser("up", help="bring it up, which is the default; it stays until `down`")
    up.add_argument("--nodes", type=int, default=2, metavar="N", help="how many (default: 2)")
    up.add_argument(
        "--instance-type",
        default=Wanted().instance_type,
        metavar="T",
        help="ECS type of the nodes, which says how many ENIs and addresses one has (default: %(default)s)",
    )
    up.add_argument(
        "--proxy",
        type=ProxyMode,
        choices=tuple(ProxyMode),
        default=ProxyMode.NFTABLES,
        help="what kube-proxy writes, or none (default: nftables)",
    )
    up.add_argument(
        "--kubernetes", default=binaries.VERSION, metavar="VERSION", help="(default: %(default)s)"
    )
    up.add_argument(
        "--agent",
        type=Agent,
        choices=tuple(Agent),
        default=Agent.PODS,
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
    words.add_parser("down", help="end it and leave nothing behind; no cluster is no error")
    words.add_parser("status", help="nodes and pods")
    words.add_parser("kubectl", help="kubectl ARGS..., as administrator", add_help=False)
    words.add_parser("shell", help="a bash with kubectl, or shell -c 'COMMAND'", add_help=False)
    node = words.add_parser("node", help="node NAME [CMD...]: run a command in a node; default: a shell")
    node.add_argument("node", metavar="NAME")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit status 0, that of kubectl, the shell or the node's command, or 1 and one line."""
    try:
        name, words = _named(list(sys.argv[1:] if argv is None else argv))
        if os.geteuid() != 0 and not {"-h", "--help"} & set(words):
            raise LabError("a cluster makes namespaces and runs containers: run it as root")
        match words:
            # Their options are not ours to read.
            case ["kubectl", *rest]:
                return kubectl.attach(_cluster(name), rest)
            case ["shell", *rest]:
                return kubectl.shell(_cluster(name), rest)
            case ["node", node, *rest] if not node.startswith("-"):
                return attach(_cluster(name).node(node).spawn, rest or ["bash"])
        return _run(parser().parse_args(["--name", name, *words]))
    except (LabError, KernelError, ValueError, OSError, subprocess.SubprocessError) as exc:
        print(f"cluster: {' '.join(str(exc).split())}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
    return 1


def _named(words: list[str]) -> tuple[str, list[str]]:
    """The cluster's name, and the words behind it; ``up`` is the default."""
    name = cluster.NAME
    if words[:1] == ["--name"] and len(words) > 1:
        name, words = words[1], words[2:]
    elif words and words[0].startswith("--name="):
        name, words = words[0].partition("=")[2], words[1:]
    if not words or (words[0].startswith("--") and words[0] != "--help"):
        words = ["up", *words]
    return check_name(name), words


def _run(args: argparse.Namespace) -> int:
    match args.word:
        case "up":
            return _up(args)
        case "down":
            print("the cluster is down" if take_down(args.name) else "there is no cluster")
            return 0
        case _:
            return _status(_cluster(args.name))


def _cluster(name: str) -> Lab:
    """The one that is up. Raises LabError."""
    lab = _running(name)
    if lab is None:
        raise LabError(f"there is no cluster; bring one up with `{typed(name, 'up')}`")
    return lab


def _running(name: str) -> Lab | None:
    """None if nobody answers: a killed one has left its socket."""
    try:
        return Lab.attach(name)
    except LabError:
        return None


def _up(args: argparse.Namespace) -> int:
    if args.nodes < 1:
        raise ValueError(f"--nodes is {args.nodes}, allowed: 1 and more")
    wanted = Wanted(
        nodes=args.nodes,
        instance_type=args.instance_type,
        proxy=args.proxy,
        version=args.kubernetes,
        agent=args.agent,
        mode=mode_of(args.mode),
        host_ports=args.host_ports,
        name=args.name,
    )
    lab = _running(wanted.name)
    if lab is None:
        lab = _fresh(wanted)
    else:
        _check_same(lab, wanted)
        print("[cluster] it is up already, with these options", file=sys.stderr)
    return _status(lab)


def _check_same(lab: Lab, wanted: Wanted) -> None:
    """Raises LabError if the one that is up is another than is wanted."""
    if other := options.differences(options.of(lab.directory), asdict(wanted)):
        raise LabError(
            f"a cluster is up already, with {other}; end it with `{typed(wanted.name, 'down')}` first"
        )


def _fresh(wanted: Wanted) -> Lab:
    began = time.monotonic()
    # As Ctrl-C: whatever is half up is taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def say(text: str) -> None:
        print(f"[cluster] {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)

    lab = cluster.up(wanted, say)
    name = wanted.name
    say(f"up; try `{typed(name, 'kubectl get pods -A -o wide')}`, and `{typed(name, 'down')}` at the end")
    return lab


def _status(lab: Lab) -> int:
    print(f"up with {options.describe(options.of(lab.directory))}\n")
    for what in (["nodes"], ["pods", "--all-namespaces"]):
        print(kubectl.run(lab, ["get", *what, "--output=wide"]))
    for node in lab.nodes:
        for line in restarted(node):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
