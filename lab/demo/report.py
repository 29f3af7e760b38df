"""What the demonstration has seen, as one JSON object and as text for a person."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.demo.matrix import Kind, Outcome, Protocol
from lab.demo.vitals import Vitals


@dataclass(frozen=True, slots=True)
class EniReport:
    eni_id: str
    mac: str
    eni_type: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeReport:
    name: str
    mode: str
    bpf: bool
    enis: tuple[EniReport, ...]
    daemon: Vitals


@dataclass(frozen=True, slots=True)
class PodReport:
    node: str
    namespace: str
    name: str
    addresses: tuple[str, ...]
    eni: str
    add_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    nodes: tuple[NodeReport, ...]
    pods: tuple[PodReport, ...]
    outcomes: tuple[Outcome, ...]
    fabric_drops: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return bool(self.outcomes) and all(o.ok for o in self.outcomes) and not self.fabric_drops


def as_json(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "nodes": [
            {
                "name": n.name,
                "mode": n.mode,
                "bpf": n.bpf,
                "enis": [
                    {"id": e.eni_id, "mac": e.mac, "type": e.eni_type, "addresses": list(e.addresses)}
                    for e in n.enis
                ],
                "daemon": {
                    "rss_mib": n.daemon.rss_mib,
                    "idle_cpu_percent": n.daemon.idle_cpu_percent,
                },
            }
            for n in report.nodes
        ],
        "pods": [
            {
                "node": p.node,
                "namespace": p.namespace,
                "name": p.name,
                "address": p.addresses[0],
                "addresses": list(p.addresses),
                "eni": p.eni,
            }
            for p in report.pods
        ],
        "matrix": [
            {
                "from": o.cell.source.name,
                "to": o.cell.target.name,
                "kind": o.cell.kind.value,
                "protocol": o.cell.protocol.value,
                "family": o.cell.family,
                "ok": o.ok,
                "path": o.path,
            }
            for o in report.outcomes
        ],
        "adds_ms": [p.add_ms for p in report.pods],
        "fabric_drops": report.fabric_drops,
    }


def as_text(report: Report) -> str:
    parts = (
        _where(report),
        _matrix(report.outcomes),
        _failures(report.outcomes),
        _times(report.pods),
        _drops(report.fabric_drops),
        _daemons(report.nodes),
        _verdict(report),
    )
    return "\n\n".join(part for part in parts if part)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows
    )


def _where(report: Report) -> str:
    lines = ["What runs where"]
    for node in report.nodes:
        carried = "eBPF" if node.bpf else "kernel routing"
        lines.append(f"  {node.name}: {node.mode}, packets carried by {carried}")
        for eni in node.enis:
            lines.append(f"    {eni.eni_id}  {eni.mac}  {eni.eni_type}  {_few(eni.addresses)}")
            for pod in report.pods:
                if pod.eni == eni.eni_id:
                    lines.append(f"      {pod.namespace}/{pod.name}  {', '.join(pod.addresses)}")
    return "\n".join(lines)


def _few(addresses: Sequence[str]) -> str:
    """All of them if they are few, else how many of each family."""
    if len(addresses) <= 2:
        return ", ".join(addresses)
    v6 = sum(":" in address for address in addresses)
    return f"{len(addresses) - v6} IPv4 and {v6} IPv6 addresses"


def _matrix(outcomes: Sequence[Outcome]) -> str:
    columns = [(p, f) for f in (4, 6) for p in Protocol]
    rows = [["", *(f"{p.upper()}/IPv{f}" for p, f in columns), "path"]]
    for kind in Kind:
        some = [o for o in outcomes if o.cell.kind is kind]
        if some:
            cells = [_good(o for o in some if (o.cell.protocol, o.cell.family) == c) for c in columns]
            rows.append([kind.value, *cells, _paths(some)])
    title = "Connectivity: good pairs of all pairs, each tried small, MTU-sized and fragmented"
    legend = "path: what carried the packets on the node, by its own counters; stack: the kernel's IP stack"
    return f"{title}\n{_table(rows)}\n  ({legend})"


def _good(outcomes: Iterable[Outcome]) -> str:
    some = list(outcomes)
    return f"{sum(o.ok for o in some)}/{len(some)}" if some else "-"


def _paths(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(f"{path}" for path, _ in Counter(o.path for o in outcomes).most_common())


def _failures(outcomes: Sequence[Outcome]) -> str:
    bad = [o for o in outcomes if not o.ok]
    if not bad:
        return ""
    lines = ["Not good"]
    for o in bad[:40]:
        why = "; ".join(f"{s}: {e}" for s, e in zip(o.failed, o.errors, strict=True))
        cell = o.cell
        lines.append(f"  {cell.source.name} -> {cell.target.name}  {cell.protocol} IPv{cell.family}  {why}")
    if len(bad) > 40:
        lines.append(f"  and {len(bad) - 40} more")
    return "\n".join(lines)


def _times(pods: Sequence[PodReport]) -> str:
    of_node: dict[str, list[PodReport]] = {}
    for pod in pods:
        of_node.setdefault(pod.node, []).append(pod)
    later = [p.add_ms for some in of_node.values() for p in some[1:]]
    title = "Time of each ADD in ms, exec included; a node's first waits for the cloud to make an ENI"
    if later:
        title += f", median of the others {statistics.median(later):.1f}"
    lines = [
        f"  {node}: " + "  ".join(f"{p.name} {p.add_ms:.1f}" for p in some) for node, some in of_node.items()
    ]
    return "\n".join((title, *lines))


def _drops(drops: dict[str, int]) -> str:
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(drops.items())) or "nothing"
    return f"What the fabric dropped, by reason: {told}"


def _daemons(nodes: Sequence[NodeReport]) -> str:
    rows = [["node", "memory", "idle CPU"]]
    rows += [
        [n.name, f"{n.daemon.rss_mib:.0f} MiB", f"{n.daemon.idle_cpu_percent:.2f} % of a core"] for n in nodes
    ]
    return f"What each terwayd costs at rest\n{_table(rows)}"


def _verdict(report: Report) -> str:
    good = sum(o.ok for o in report.outcomes)
    paths = f"{good} of {len(report.outcomes)} paths are good"
    dropped = sum(report.fabric_drops.values())
    drops = f"the fabric dropped {dropped or 'no'} frame{'' if dropped == 1 else 's'}"
    return f"{'OK' if report.ok else 'NOT OK'}: {paths}, {drops}"
