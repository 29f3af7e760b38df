"""./run demo: a VPC, nodes, agents and pods on this machine, and a probe of every path between them."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datapath.errors import KernelError
from lab.cli.failures import sentence
from lab.cli.labs import chosen_name, declare_kube_bin, kube_bin_of
from lab.cli.table import counted
from lab.cli.values import LEAST_MTU, MOST_MTU, lab_name, mtu
from lab.client import Lab, is_up
from lab.demo import report as reports
from lab.demo import vitals
from lab.demo.around import look_around
from lab.demo.matrix import Outcome, cells
from lab.demo.report import EniReport, FaultReport, NodeReport, PodReport, Report
from lab.messages import LabError
from lab.nodes import agent
from lab.sandbox import LabPod
from lab.spec import LabSpec, NodeSpec
from lab.statedir import LabDir

NAMESPACE = "demo"
_NAME = "demo"
REST = 3.0
"""Seconds over which idle CPU is measured."""


def say(text: str) -> None:
    print(f"[demo] {text}", file=sys.stderr, flush=True)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Bring up a VPC with nodes and pods on this machine and try every path between them. "
        "Exit status 0 only if every cell of the matrix is good, the fabric dropped nothing and, with eBPF "
        "in force, the stack forwarded none of the pods' common packets.",
        epilog="example: ./run demo --nodes 3 --pods 5 --wire",
    )
    parser.add_argument("--nodes", type=_count, default=2, metavar="N", help="default %(default)s")
    parser.add_argument("--pods", type=_count, default=3, metavar="N", help="per node, default %(default)s")
    parser.add_argument(
        "--bpf",
        choices=("auto", "off"),
        default="auto",
        help="off: packets go by the stack alone; default %(default)s, what terwayd does by itself",
    )
    parser.add_argument(
        "--mtu",
        type=mtu,
        default=1500,
        metavar="N",
        help=f"of every link, {LEAST_MTU} to {MOST_MTU}, default %(default)s",
    )
    parser.add_argument("--wire", action="store_true", help="offloads off: frames are as a wire carries them")
    declare_kube_bin(parser)
    parser.add_argument(
        "--keep", action="store_true", help="leave the lab running and say how to look around"
    )
    parser.add_argument(
        "--name", type=lab_name, help=f"of the lab, default {_NAME}, or the next that no other clone has"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 40:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 40")
    return number


def _start_agents(lab: Lab, bpf: str) -> None:
    conf, network = agent.eni_conf(lab.spec, ip_stack="dual"), agent.cni_conf(mtu=lab.spec.mtu)

    def start(name: str) -> None:
        node = lab.node(name)
        node.install_cni()
        node.write_config(conf, network)
        node.start_agent(("-bpf", "off") if bpf == "off" else ())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, [n.name for n in lab.spec.nodes]))


def _report(lab: Lab, pods: Sequence[LabPod], outcomes: Sequence[Outcome]) -> Report:
    from lab.demo.trial import asked

    pids = {n.name: pid for n in lab.nodes if (pid := n.agent_pid) is not None}
    cost = vitals.measure(pids, REST)
    state = lab.cloud.state()
    eni_of = {a: e["id"] for e in state["enis"] for a in _addresses(e)}
    nodes = []
    for node in lab.status()["nodes"]:
        mode = asked(lab, node["name"], "/mode")
        enis = tuple(_eni(e) for e in state["enis"] if e["instance"] == node["instance"])
        force = mode["in_force"]
        nodes.append(
            NodeReport(
                node["name"],
                f"ENI multi-IP, {force['eniip_virtual_type']}",
                bool(force["bpf"]),
                enis,
                cost[node["name"]],
                tuple(mode["because"]),
            )
        )
    reported = tuple(
        PodReport(
            p.node.name,
            p.record.namespace,
            p.record.name,
            tuple(map(str, p.addresses)),
            eni_of.get(str(p.ipv4), ""),
            round(p.add_seconds * 1000, 2),
        )
        for p in pods
    )
    faults = tuple(FaultReport(**fault) for fault in lab.faults())
    return Report(tuple(nodes), reported, tuple(outcomes), lab.drops(), faults)


def _eni(eni: dict[str, Any]) -> EniReport:
    return EniReport(eni["id"], eni["mac"], eni["type"], tuple(_addresses(eni)))


def _addresses(eni: dict[str, Any]) -> list[str]:
    return list(eni["addresses"])


def _demonstrate(lab: Lab, args: argparse.Namespace) -> Report:
    from lab.demo.trial import places, try_all  # here, so that --help needs no package

    say(f"starting terwayd on {counted(args.nodes, 'node')}")
    _start_agents(lab, args.bpf)
    say(f"adding {counted(args.nodes * args.pods, 'pod')} by the CNI executable, as containerd calls it")
    pods = [
        lab.add_pod(node.name, NAMESPACE, f"pod-{i}-{j}")
        for i, node in enumerate(lab.spec.nodes, 1)
        for j in range(1, args.pods + 1)
    ]
    with contextlib.ExitStack() as stack:
        among = places(lab, pods, stack)
        to_try = cells(among)
        total = len(to_try)
        say(f"trying {total} paths between pods, nodes and the outside, with common packets and unusual ones")
        outcomes = []
        shown = time.monotonic()
        for outcome in try_all(lab, among, to_try):
            outcomes.append(outcome)
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                say(f"  {len(outcomes)} of {total} tried, {sum(not o.ok for o in outcomes)} not good")
    say(f"measuring memory and CPU of each terwayd at rest, for {REST:.0f} s")
    return _report(lab, pods, outcomes)


def _run(args: argparse.Namespace) -> Report:
    """The lab is gone when this returns or raises, unless it is to be kept and nobody interrupted."""
    _refuse_if_up(args.name)
    nodes = tuple(NodeSpec(f"node{i}") for i in range(1, args.nodes + 1))
    spec = LabSpec(nodes=nodes, wire=args.wire, mtu=args.mtu, kube_bin=kube_bin_of(args))
    say(f"bringing up a VPC with {counted(args.nodes, 'node')}{' as on a wire' if args.wire else ''}")
    lab = Lab.start(spec, name=args.name, keep=args.keep, progress=say)
    with contextlib.ExitStack() as stack:
        stack.callback(lab.close if args.keep else lab.down)
        try:
            return _demonstrate(lab, args)
        except KeyboardInterrupt:
            lab.down()
            raise


def _refuse_if_up(name: str) -> None:
    try:
        Lab.attach(name).close()
    except LabError:
        return
    raise LabError(is_up(LabDir.of(name)))


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    args.name = chosen_name(args.name, _NAME)
    # SIGINT too: shells start their background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        report = _run(args)
    except (LabError, KernelError, OSError) as exc:
        print(f"demo: {sentence(exc)}", file=sys.stderr)
        if args.keep:
            print(f"demo: what is up of it ends with `./run lab down --name {args.name}`", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left behind", file=sys.stderr)
        return 130
    print(json.dumps(reports.as_json(report)) if args.json else reports.as_text(report), flush=True)
    if args.keep:
        print("\n" + look_around(args.name, report), file=sys.stderr)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
