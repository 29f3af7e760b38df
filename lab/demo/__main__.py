"""./run demo: a VPC, nodes, agents and pods on this machine, and a probe of every path between them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

from datapath.errors import KernelError
from lab.cli.labs import declare_kube_bin, kube_bin_of
from lab.client import Lab
from lab.demo import report as reports
from lab.demo import vitals
from lab.demo.around import look_around
from lab.demo.counters import NodeCounters
from lab.demo.matrix import Cell, Outcome, Place, Where, cells
from lab.demo.probes import echo_servers, probe
from lab.demo.report import EniReport, NodeReport, PodReport, Report
from lab.messages import LabError
from lab.nodes import agent
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6, LabSpec, NodeSpec
from lab.statedir import check_name

NAMESPACE = "demo"
REST = 3.0
"""Seconds over which idle CPU is measured."""


def say(text: str) -> None:
    print(f"[demo] {text}", file=sys.stderr, flush=True)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Bring up a VPC with nodes and pods on this machine and try every path between them. "
        "Exit status 0 only if every cell of the matrix is good and the fabric dropped nothing.",
        epilog="example: ./run demo --nodes 3 --pods 5 --wire",
    )
    parser.add_argument("--nodes", type=_count, default=2, metavar="N", help="default %(default)s")
    parser.add_argument("--pods", type=_count, default=3, metavar="N", help="per node, default %(default)s")
    parser.add_argument("--wire", action="store_true", help="offloads off: frames are as a wire carries them")
    declare_kube_bin(parser)
    parser.add_argument(
        "--keep", action="store_true", help="leave the lab running and say how to look around"
    )
    parser.add_argument("--name", type=_name, default="demo", help="of the lab, default %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")
    return parser.parse_args(argv)


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 40:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 40")
    return number


def _start_agents(lab: Lab) -> None:
    def start(name: str) -> None:
        node = lab.node(name)
        node.install_cni()
        node.write_config(agent.eni_conf(lab.spec, ip_stack="dual"))
        node.start_agent()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, [n.name for n in lab.spec.nodes]))


def _places(lab: Lab, pods: Sequence[LabPod], stack: contextlib.ExitStack) -> list[Place]:
    def held(fd: int) -> int:
        stack.callback(os.close, fd)
        return fd

    places = [
        Place(
            f"{p.record.namespace}/{p.record.name}", Where.POD, p.node.name, held(p.netns_fd()), p.addresses
        )
        for p in pods
    ]
    for node in lab.status()["nodes"]:
        mode = _asked(lab, node["name"], "/mode")
        addresses = tuple(ip_address(a) for a in mode["node"]["addresses"])
        places.append(
            Place(node["name"], Where.NODE, node["name"], held(lab.netns_fd(node["name"])), addresses)
        )
    outside = held(lab.netns_fd("outside"))
    places.append(Place("outside", Where.OUTSIDE, "", outside, (OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6)))
    return places


def _asked(lab: Lab, node: str, path: str) -> Any:
    status, body = lab.node(node).agent_get(path)
    if status != 200:
        raise LabError(f"terwayd of {node} answered {path} with {status}: {body.strip()}")
    return json.loads(body)


def _try_all(places: list[Place], mtu: int) -> Iterator[Outcome]:
    families = (4, 6)
    watched = {p.node: NodeCounters(p.netns) for p in places if p.where is Where.NODE}
    try:
        with echo_servers(places):
            for cell in cells(places, families):
                yield _try(cell, watched[cell.watched_node], mtu)
    finally:
        for counters in watched.values():
            counters.close()


def _try(cell: Cell, counters: NodeCounters, mtu: int) -> Outcome:
    before = counters.read(cell.family)
    failed = probe(cell, mtu)
    moved = counters.read(cell.family) - before
    by_stack = moved.forwarded if cell.forwarded_by else moved.delivered
    path = "stack" if by_stack > 0 else "unseen"
    return Outcome(cell, path, tuple(s for s, _ in failed), tuple(e for _, e in failed))


def _report(lab: Lab, pods: Sequence[LabPod], outcomes: Sequence[Outcome]) -> Report:
    pids = {n.name: pid for n in lab.nodes if (pid := n.agent_pid) is not None}
    cost = vitals.measure(pids, REST)
    state = lab.cloud.state()
    eni_of = {a: e["id"] for e in state["enis"] for a in _addresses(e)}
    nodes = []
    for node in lab.status()["nodes"]:
        mode = _asked(lab, node["name"], "/mode")["in_force"]
        enis = tuple(_eni(e) for e in state["enis"] if e["instance"] == node["instance"])
        name = f"ENI multi-IP, {mode['eniip_virtual_type']}"
        nodes.append(NodeReport(node["name"], name, bool(mode["bpf"]), enis, cost[node["name"]]))
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
    return Report(tuple(nodes), reported, tuple(outcomes), lab.drops())


def _eni(eni: dict[str, Any]) -> EniReport:
    return EniReport(eni["id"], eni["mac"], eni["type"], tuple(_addresses(eni)))


def _addresses(eni: dict[str, Any]) -> list[str]:
    return list(eni["addresses"])


def _demonstrate(lab: Lab, args: argparse.Namespace) -> Report:
    say(f"starting terwayd on {_plural(args.nodes, 'node')}")
    _start_agents(lab)
    say(f"adding {_plural(args.nodes * args.pods, 'pod')} by the CNI executable, as containerd calls it")
    pods = [
        lab.add_pod(node.name, NAMESPACE, f"pod-{i}-{j}")
        for i, node in enumerate(lab.spec.nodes, 1)
        for j in range(1, args.pods + 1)
    ]
    with contextlib.ExitStack() as stack:
        places = _places(lab, pods, stack)
        total = sum(1 for _ in cells(places, (4, 6)))
        say(f"trying {total} paths between pods, nodes and the outside, each small, MTU-sized and fragmented")
        outcomes = []
        shown = time.monotonic()
        for outcome in _try_all(places, lab.spec.mtu):
            outcomes.append(outcome)
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                say(f"  {len(outcomes)} of {total} tried, {sum(not o.ok for o in outcomes)} not good")
    say(f"measuring memory and CPU of each terwayd at rest, for {REST:.0f} s")
    return _report(lab, pods, outcomes)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _run(args: argparse.Namespace) -> Report:
    """The lab is gone when this returns or raises, unless it is to be kept and nobody interrupted."""
    _refuse_if_up(args.name)
    nodes = tuple(NodeSpec(f"node{i}") for i in range(1, args.nodes + 1))
    spec = LabSpec(nodes=nodes, wire=args.wire, kube_bin=kube_bin_of(args))
    say(f"bringing up a VPC with {_plural(args.nodes, 'node')}{' as on a wire' if args.wire else ''}")
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
    raise LabError(
        f"a lab {name!r} is up already, a kept one or another demo; "
        f"end it with `./run lab down --name {name}`, or choose a --name"
    )


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    # SIGINT too: shells start their background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        report = _run(args)
    except (LabError, KernelError, OSError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
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
