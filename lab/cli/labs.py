"""``up``, ``down``, ``status`` and ``counters``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.apiserver import programs
from lab.cli import capture, workloads
from lab.cli.table import few, table
from lab.cli.values import LEAST_MTU, MOST_MTU, from_zero, json_file, mtu
from lab.cli.words import Output, Words, name_of
from lab.client import Lab, take_down
from lab.commands import typed
from lab.families import stack_of
from lab.nodes.agent import Wait, follow
from lab.ownership import free_name, owner_of
from lab.spec import LabSpec, NodeSpec, ProxyMode
from lab.spec_json import decode_spec
from lab.statedir import CLUSTER, DEFAULT_NAME, LabDir

_AGENT_DEADLINE = 240.0
_SPEC = """\
--spec FILE: an object with fields of lab/spec.py's LabSpec; what is left out has its default. Here two zones,
and nodes of two types:
  {"vswitches": [{"vswitch_id": "vsw-nodes", "zone": "cn-hangzhou-a", "cidr": "10.0.0.0/20", "cidr_v6": null},
                 {"vswitch_id": "vsw-b", "zone": "cn-hangzhou-b", "cidr": "10.0.32.0/20", "cidr_v6": null}],
   "nodes": [{"name": "node1"}, {"name": "node2", "instance_type": "ecs.g6.large",
                                 "zone": "cn-hangzhou-b", "vswitch_id": "vsw-b"}],
   "delays": {"metadata": 1.0, "attach": 2.0}}
An unknown field is refused, and those that exist are named."""


def declare(words: Words) -> None:
    up = words.command(
        "up", _up, "Bring up a VPC with nodes; it stays until `down`.", "--nodes 3 --wire", _SPEC
    )
    up.add_argument(
        "--nodes",
        type=from_zero,
        metavar="N",
        help="how many nodes (default: 2); with 0 a VPC to which `node add` adds some",
    )
    up.add_argument("--instance-type", metavar="T", help="ECS type of the nodes (default: ecs.g7.xlarge)")
    up.add_argument("--wire", action="store_true", help="offloads off: frames are as a wire would carry them")
    up.add_argument(
        "--mtu", type=mtu, metavar="M", help=f"of every link, {LEAST_MTU} to {MOST_MTU} (default: 1500)"
    )
    up.add_argument("--spec", type=Path, metavar="FILE", help="the whole specification as JSON; see below")
    declare_kube_bin(up)
    up.add_argument(
        "--kubernetes",
        action="store_true",
        help="a whole cluster with terway in it, as `./run cluster` makes it; programs are built once",
    )
    up.add_argument(
        "--agents", action="store_true", help="start terwayd as a process of each node, CNI installed"
    )
    words.command("down", _down, "End the lab and leave nothing behind; no lab is no error.", "")
    status = words.on_lab("status", _status, "Show nodes, their ENIs, and pods.", "--json")
    status.add_argument("--wide", action="store_true", help="every address of every ENI")
    counters = words.on_lab("counters", _counters, "Count frames by what the fabric did and why.", "--ports")
    counters.add_argument("--ports", action="store_true", help="per port")
    capture.declare(words)


def declare_kube_bin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kube-bin",
        metavar="DIR",
        help="the Kubernetes API is DIR/kube-apiserver with DIR/etcd, and not the lab's own small server "
        f"(default: ${programs.VARIABLE} if that is set)",
    )


def kube_bin_of(args: argparse.Namespace, default: str = "") -> str:
    """--kube-bin, else ``default``, else the environment's; absolute, "" for the small server."""
    chosen = args.kube_bin
    if chosen is None:
        chosen = default or os.environ.get(programs.VARIABLE, "")
    return os.path.abspath(chosen) if chosen else ""


def say(text: str) -> None:
    print(f"[lab] {text}", file=sys.stderr, flush=True)


def spec_of(args: argparse.Namespace) -> LabSpec:
    """What the options of ``up`` describe. Raises ValueError that names the file, if it is one's fault."""
    spec = _spec_in(args.spec) if args.spec else LabSpec()
    if args.nodes is not None:
        spec = replace(spec, nodes=tuple(NodeSpec(f"node{i + 1}") for i in range(args.nodes)))
    if args.instance_type:
        nodes = (replace(node, instance_type=args.instance_type) for node in spec.nodes)
        spec = replace(spec, nodes=tuple(nodes))
    if args.mtu is not None:
        spec = replace(spec, mtu=args.mtu)
    spec = replace(spec, kube_bin=kube_bin_of(args, spec.kube_bin))
    return replace(spec, wire=True) if args.wire else spec


def _spec_in(path: Path) -> LabSpec:
    value = json_file(path)
    try:
        return decode_spec(value)
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def chosen_name(given: str | None, usual: str) -> str:
    """--name, else ``usual``, else the next name if a lab of another clone has that; says which and why."""
    if given is not None:
        return given
    name = free_name(usual)
    if name != usual:
        say(f"lab {usual!r} is up ({owner_of(LabDir.of(usual))}); this one is {name!r}")
    return name


def _up(args: argparse.Namespace) -> Output:
    if args.kubernetes:
        return _status(_cluster(args), args)
    lab = Lab.start(spec_of(args), name=chosen_name(args.name, DEFAULT_NAME), keep=True, progress=say)
    try:
        if args.agents:
            start_agents(lab)
    except BaseException:
        lab.down()
        raise
    return _status(lab, args)


def _cluster(args: argparse.Namespace) -> Lab:
    """As `./run cluster up`, in the VPC that the options describe."""
    from lab.kubernetes import cluster  # imports what makes certificates: 50 ms

    if args.kube_bin:
        raise ValueError("--kube-bin is of a lab without --kubernetes; name the programs in KUBE_BIN")
    spec = spec_of(args)
    wanted = cluster.Wanted(
        nodes=len(spec.nodes),
        proxy=spec.kubernetes.proxy if spec.kubernetes else ProxyMode.NFTABLES,
        ip_stack=stack_of(spec),
        agent=cluster.Agent.PROCESS if args.agents else cluster.Agent.PODS,
        name=args.name or CLUSTER,
    )
    if spec.nodes:
        wanted = replace(wanted, instance_type=spec.nodes[0].instance_type)
    return cluster.bring_up(spec, wanted, say)


def start_agents(lab: Lab) -> None:
    """terwayd with the default configuration on every node that runs, the CNI executable installed."""
    started = []
    for node in lab.nodes:
        node.install_cni()
        node.write_config()
        started.append((node, node.start_agent(wait=Wait.NOTHING)))
    for node, process in started:
        follow(node, process, Wait.READY, time.monotonic() + _AGENT_DEADLINE)


def _down(args: argparse.Namespace) -> Output:
    name = name_of(args)
    was = take_down(name)
    return Output({"was_up": was}, f"lab {name} is down" if was else f"there is no lab {name}")


def _status(lab: Lab, args: argparse.Namespace) -> Output:
    status = lab.status()
    status["owner"] = str(owner_of(lab.directory) or "")
    for node in status["nodes"]:
        node["agent_pid"] = lab.node(node["name"]).agent_pid if node["running"] else None
    mark_the_gone(lab, status)
    parts: list[str] = []
    if lab.spec.kubernetes is not None:
        parts += workloads.parts(lab, status)
    parts = [_node_table(lab, status), _eni_table(status, wide=getattr(args, "wide", False)), *parts]
    if status["pods"]:
        parts.append(pod_table(status["pods"]))
    if status["kubernetes"]["kubeconfig"] and lab.spec.kubernetes is None:
        parts.append(_kubernetes(lab, status))
    if status["error"]:
        parts.append(f"the fabric lags behind the cloud: {status['error']}")
    return Output(status, "\n\n".join(parts))


def _kubernetes(lab: Lab, status: dict[str, Any]) -> str:
    """A real API server, and how a person talks to it."""
    told = status["kubernetes"]
    text = f"Kubernetes API: {told['server']} at {told['url']}"
    node = next((n["name"] for n in status["nodes"] if n["running"]), None)
    if node is None:
        return text
    reach = f"nsenter --net --target {lab.node(node).pid} kubectl --kubeconfig {told['kubeconfig']}"
    return f"{text}\n  {reach} get pods -A"


def mark_the_gone(lab: Lab, status: dict[str, Any]) -> None:
    """``sandbox_gone`` of each pod: its node is off, or has been rebooted since its ADD."""
    alive = {n["name"]: lab.node(n["name"]).sandboxes() for n in status["nodes"] if n["running"]}
    for record in status["pods"]:
        record["sandbox_gone"] = record["sandbox"] not in alive.get(record["node"], ())


def _agent_of(node: dict[str, Any]) -> str:
    """terwayd is a pod of the node or a process on it."""
    if node.get("agent_pod"):
        return f"pod {node['agent_pod']}"
    return f"pid {node['agent_pid']}" if node["agent_pid"] else "off"


def _node_table(lab: Lab, status: dict[str, Any]) -> str:
    if not status["nodes"]:
        return f"no node yet: `{typed(lab.name, 'node add node1')}` adds one"
    rows = (
        (
            n["name"],
            "running" if n["running"] else "off",
            n["instance"],
            n["type"],
            n["address"],
            _agent_of(n),
        )
        for n in status["nodes"]
    )
    return table(("NODE", "STATE", "INSTANCE", "TYPE", "ADDRESS", "TERWAYD"), rows)


def _eni_table(status: dict[str, Any], *, wide: bool) -> str:
    rows = (
        (
            e["id"],
            n["name"],
            e["type"],
            e["status"],
            e["mac"],
            e["addresses"] if wide else few(e["addresses"]),
        )
        for n in status["nodes"]
        for e in n["enis"]
    )
    return table(("ENI", "NODE", "TYPE", "STATUS", "MAC", "ADDRESSES"), rows)


def pod_table(records: list[dict[str, Any]]) -> str:
    rows = (
        (
            f"{r['namespace']}/{r['name']}",
            r["node"],
            [ip["address"] for ip in (r["result"] or {}).get("ips", ())],
            f"{r['add_seconds'] * 1000:.1f}",
            "gone" if r.get("sandbox_gone") else r["container_id"][:13],
        )
        for r in records
    )
    return table(("POD", "NODE", "ADDRESSES", "ADD MS", "SANDBOX"), rows)


def _counters(lab: Lab, args: argparse.Namespace) -> Output:
    if not args.ports:
        counters = lab.counters()
        return Output(counters, table(("REASON", "FRAMES"), [(k, v) for k, v in counters.items() if v]))
    ports = lab.port_counters()
    rows = [(port, reason, n) for port, counts in ports.items() for reason, n in counts.items() if n]
    return Output(ports, table(("PORT", "REASON", "FRAMES"), rows))
