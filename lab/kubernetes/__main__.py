"""``./run cluster``: a Kubernetes in the lab's VPC, from up to down."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from datapath.errors import KernelError
from lab.cli.terminal import attach
from lab.client import Lab, take_down
from lab.kubernetes import binaries, cluster, kubectl
from lab.kubernetes.cluster import Agent, Wanted
from lab.messages import LabError
from lab.spec import ProxyMode
from lab.statedir import LabDir

_TEXT = (
    "Kubernetes on this machine: etcd, API server, controllers and scheduler are a host of the lab's VPC; "
    "each node is an ECS instance with containerd, kubelet and kube-proxy, whose pods have addresses of its "
    "ENIs. The machine's own network and files stay as they are."
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="./run cluster", description=_TEXT, epilog="example: ./run cluster up --proxy iptables"
    )
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
    words.add_parser("down", help="end it and leave nothing behind; no cluster is no error")
    words.add_parser("status", help="nodes and pods")
    words.add_parser("kubectl", help="kubectl ARGS..., as administrator", add_help=False)
    node = words.add_parser("node", help="node NAME [CMD...]: run a command in a node; default: a shell")
    node.add_argument("node", metavar="NAME")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit status 0, that of kubectl or of the node's command, or 1 and one line."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("--") and words[0] != "--help"):
        words.insert(0, "up")
    try:
        if os.geteuid() != 0 and not {"-h", "--help"} & set(words):
            raise LabError("a cluster makes namespaces and runs containers: run it as root")
        if words[0] == "kubectl":
            # Its options are not ours to read.
            return kubectl.attach(_cluster(), words[1:])
        if words[0] == "node" and words[1:] and not words[1].startswith("-"):
            return _in_node(words[1], words[2:])
        return _run(parser().parse_args(words))
    except (LabError, KernelError, ValueError, OSError, subprocess.SubprocessError) as exc:
        print(f"cluster: {' '.join(str(exc).split())}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
    return 1


def _run(args: argparse.Namespace) -> int:
    match args.word:
        case "up":
            return _up(args)
        case "down":
            print("the cluster is down" if take_down(cluster.NAME) else "there is no cluster")
            return 0
        case _:
            return _status(_cluster())


def _cluster() -> Lab:
    """The one that is up. Raises LabError."""
    if not LabDir.of(cluster.NAME).control.exists():
        raise LabError("there is no cluster; bring one up with `./run cluster up`")
    return Lab.attach(cluster.NAME)


def _in_node(name: str, command: list[str]) -> int:
    return attach(_cluster().node(name).spawn, command or ["bash"])


def _up(args: argparse.Namespace) -> int:
    if args.nodes < 1:
        raise ValueError(f"--nodes is {args.nodes}, allowed: 1 and more")
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[cluster] {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)

    wanted = Wanted(
        nodes=args.nodes,
        instance_type=args.instance_type,
        proxy=args.proxy,
        version=args.kubernetes,
        agent=args.agent,
    )
    lab = cluster.up(wanted, say)
    say("up; try `./run cluster kubectl get pods -A -o wide`, and `./run cluster down` at the end")
    return _status(lab)


def _status(lab: Lab) -> int:
    for what in (["nodes"], ["pods", "--all-namespaces"]):
        print(kubectl.run(lab, ["get", *what, "--output=wide"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
