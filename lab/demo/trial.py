"""Every cell tried in turn, with the counters of its nodes read before and after."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lab.client import Lab
from lab.demo import narrow
from lab.demo.counters import NodeCounters
from lab.demo.echo import Service, echo_servers
from lab.demo.matrix import Cell, Kind, Outcome, Place, Where
from lab.demo.probes import least_packets, probe
from lab.demo.witness import packets_of, path_of
from lab.messages import LabError
from lab.nodes import agent
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6


def asked(lab: Lab, node: str, path: str) -> Any:
    """What the node's terwayd answers. Raises LabError if it is not 200."""
    status, body = lab.node(node).agent_get(path)
    if status != 200:
        raise LabError(f"terwayd of {node} answered {path} with {status}: {body.strip()}")
    return json.loads(body)


def places(lab: Lab, pods: Sequence[LabPod], stack: ExitStack) -> list[Place]:
    """Pods, nodes and the outside. ``stack`` closes their namespaces."""

    def held(fd: int) -> int:
        stack.callback(os.close, fd)
        return fd

    found = [Place(p.key, Where.POD, p.node.name, held(p.netns_fd()), p.addresses) for p in pods]
    for node in lab.status()["nodes"]:
        name = node["name"]
        addresses = tuple(ip_address(a) for a in asked(lab, name, "/mode")["node"]["addresses"])
        found.append(Place(name, Where.NODE, name, held(lab.netns_fd(name)), addresses))
    outside = held(lab.netns_fd("outside"))
    found.append(Place("outside", Where.OUTSIDE, "", outside, (OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6)))
    return found


def try_all(lab: Lab, among: Sequence[Place], cells: Sequence[Cell]) -> Iterator[Outcome]:
    """``cells`` are those of the places ``among``."""
    mtu = lab.spec.mtu
    with ExitStack() as stack:
        watched = {p.node: _counters(lab, p, stack) for p in among if p.where is Where.NODE}
        services = [Service(place) for place in among]
        for place in dict.fromkeys(c.target for c in cells if c.kind is Kind.PMTU):
            services += stack.enter_context(narrow.behind(place, mtu))
        stack.enter_context(echo_servers(services))
        for cell in cells:
            yield _try(cell, {name: watched[name] for name in cell.nodes}, mtu)


def _counters(lab: Lab, node: Place, stack: ExitStack) -> NodeCounters:
    window = Path(f"/proc/{lab.node(node.name).pid}/root") / agent.WINDOW
    made = NodeCounters(node.netns, window)
    stack.callback(made.close)
    return made


def _try(cell: Cell, watched: dict[str, NodeCounters], mtu: int) -> Outcome:
    before = {name: counters.read(cell.family) for name, counters in watched.items()}
    failed = probe(cell, mtu)
    moved = {name: counters.read(cell.family) - before[name] for name, counters in watched.items()}
    return Outcome(
        cell,
        path_of(cell, moved, least_packets(cell)),
        tuple(name for name, _ in failed),
        tuple(error for _, error in failed),
        packets_of(cell, moved),
    )
