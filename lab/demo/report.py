"""What the demonstration has seen, as one JSON object and as text for a person."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.demo.matrix import POD_TO_POD, Kind, Outcome, Packets, Path, Protocol
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
    because: tuple[str, ...] = ()
    """Sentences on what was asked for and is not in force."""


@dataclass(frozen=True, slots=True)
class PodReport:
    node: str
    namespace: str
    name: str
    addresses: tuple[str, ...]
    eni: str
    add_ms: float


@dataclass(frozen=True, slots=True)
class FaultReport:
    """Frames that the fabric dropped, by who sent them. ``node`` is "" if the ENI is gone."""

    node: str
    eni: str
    reason: str
    frames: int

    @property
    def poisons(self) -> bool:
        """Whether the frames claimed an address or a part that is another's."""
        return self.reason.startswith("claim_")


@dataclass(frozen=True, slots=True)
class Report:
    nodes: tuple[NodeReport, ...]
    pods: tuple[PodReport, ...]
    outcomes: tuple[Outcome, ...]
    fabric_drops: dict[str, int] = field(default_factory=dict)
    faults: tuple[FaultReport, ...] = ()

    @property
    def ok(self) -> bool:
        good = all(o.ok for o in self.outcomes) and not any(map(self.strayed, self.outcomes))
        return bool(self.outcomes) and good and not self.fabric_drops

    def strayed(self, outcome: Outcome) -> bool:
        """Common packets from and to pods that did not all take the fast path where it is in force."""
        cell = outcome.cell
        fast = {n.name for n in self.nodes if n.bpf}
        if cell.kind not in (*POD_TO_POD, Kind.OUTSIDE) or not fast.issuperset(cell.nodes):
            return False
        return outcome.path is not Path.EBPF

    @property
    def pod_to_pod(self) -> Packets:
        """Common packets between pods, summed up."""
        some = [o.packets for o in self.outcomes if o.cell.kind in POD_TO_POD]
        return Packets(sum(p.ebpf for p in some), sum(p.forwarded for p in some))


def as_json(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "nodes": [
            {
                "name": n.name,
                "mode": n.mode,
                "bpf": n.bpf,
                "because": list(n.because),
                "enis": [
                    {"id": e.eni_id, "mac": e.mac, "type": e.eni_type, "addresses": list(e.addresses)}
                    for e in n.enis
                ],
                "daemon": {
                    "rss_mib": n.daemon.rss_mib,
                    "sdk_worker_mib": n.daemon.started_mib,
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
                "path": o.path.value,
                "between": o.cell.between.value,
                "packets": {"ebpf": o.packets.ebpf, "forwarded": o.packets.forwarded},
            }
            for o in report.outcomes
        ],
        "pod_to_pod": {"ebpf": report.pod_to_pod.ebpf, "forwarded": report.pod_to_pod.forwarded},
        "adds_ms": [p.add_ms for p in report.pods],
        "fabric_drops": report.fabric_drops,
        "faults": [asdict(fault) for fault in report.faults],
    }


def as_text(report: Report) -> str:
    parts = (
        _where(report),
        _matrix(report.outcomes),
        _carried(report),
        _failures(report),
        _times(report.pods),
        _drops(report),
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
        lines += [f"    because: {sentence}" for sentence in node.because]
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


_TITLE = """\
Connectivity: successful pairs / pairs tried. The first five rows send ordinary packets, small and MTU-sized,
and TCP streams between every pair; the other rows test one pair of each kind"""
_LEGEND = """\
  (path: what carried the packets on the pods' nodes, by counters; ebpf: the fast path, and the stack nothing;
  stack: the kernel's IP stack; behind a path, how many pairs if not all)"""


def _carried(report: Report) -> str:
    if not any(o.cell.kind in POD_TO_POD for o in report.outcomes):
        pods = "one pod" if len(report.pods) == 1 else f"{len(report.pods)} pods"
        return f"Common packets from pod to pod: there is {pods}, and nothing to send to"
    packets = report.pod_to_pod
    still = "ForwDatagrams stood still" if not packets.forwarded else "counted by ForwDatagrams"
    return (
        f"Common packets from pod to pod: {packets.ebpf} by eBPF, "
        f"{packets.forwarded} forwardings by the nodes' stacks ({still})"
    )


def _matrix(outcomes: Sequence[Outcome]) -> str:
    columns = [(p, f) for f in (4, 6) for p in Protocol]
    rows = [["", *(f"{p.upper()}/IPv{f}" for p, f in columns), "path"]]
    for kind in Kind:
        some = [o for o in outcomes if o.cell.kind is kind]
        if some:
            cells = [_good(o for o in some if (o.cell.protocol, o.cell.family) == c) for c in columns]
            rows.append([kind.value, *cells, _paths(some)])
    return f"{_TITLE}\n{_table(rows)}\n{_LEGEND}"


def _good(outcomes: Iterable[Outcome]) -> str:
    some = list(outcomes)
    return f"{sum(o.ok for o in some)}/{len(some)}" if some else "-"


def _paths(outcomes: Sequence[Outcome]) -> str:
    counted = Counter(o.path for o in outcomes)
    if len(counted) == 1:
        return outcomes[0].path.value
    return ", ".join(f"{path} {counted[path]}" for path in Path if counted[path])


def _failures(report: Report) -> str:
    bad = [(o, why) for o in report.outcomes if (why := _why(report, o))]
    if not bad:
        return ""
    lines = ["Not good"]
    for o, why in bad[:40]:
        cell = o.cell
        kind = "" if cell.is_common else f"{cell.kind}, "
        lines.append(
            f"  {cell.source.name} -> {cell.target.name}  {kind}{cell.protocol} IPv{cell.family}  {why}"
        )
    if len(bad) > 40:
        lines.append(f"  and {len(bad) - 40} more")
    return "\n".join(lines)


def _why(report: Report, outcome: Outcome) -> str:
    """What is not good about it, "" for nothing."""
    said = [f"{name}: {error}" for name, error in zip(outcome.failed, outcome.errors, strict=True)]
    if report.strayed(outcome):
        packets = outcome.packets
        said.append(
            f"path {outcome.path} where eBPF is in force: "
            f"{packets.ebpf} packets by eBPF, {packets.forwarded} forwardings"
        )
    return "; ".join(said)


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


def _drops(report: Report) -> str:
    told = (
        ", ".join(f"{reason} {count}" for reason, count in sorted(report.fabric_drops.items())) or "nothing"
    )
    lines = [f"What the fabric dropped, by reason: {told}"]
    for fault in report.faults:
        does = "poisons" if fault.poisons else "sent"
        lines.append(
            f"  {fault.node or 'a node'} {does}: {fault.eni}, {fault.reason}, {_frames(fault.frames)}"
        )
    return "\n".join(lines)


def _frames(count: int) -> str:
    return f"{count or 'no'} frame{'' if count == 1 else 's'}"


def _daemons(nodes: Sequence[NodeReport]) -> str:
    rows = [["node", "memory", "idle CPU"]]
    rows += [[n.name, _memory(n.daemon), f"{n.daemon.idle_cpu_percent:.2f} % of a core"] for n in nodes]
    told = f"What each terwayd costs at rest\n{_table(rows)}"
    if any(n.daemon.started_mib for n in nodes):
        told += "\n  (+: the SDK worker, which ends when the cloud has not been needed for 30 s)"
    return told


def _memory(daemon: Vitals) -> str:
    """Its own, and that of the SDK worker while there is one."""
    own = f"{daemon.rss_mib - daemon.started_mib:.0f} MiB"
    return f"{own} + {daemon.started_mib:.0f} MiB" if daemon.started_mib else own


def _verdict(report: Report) -> str:
    good = sum(o.ok and not report.strayed(o) for o in report.outcomes)
    paths = f"{good} of {len(report.outcomes)} paths are good"
    drops = f"the fabric dropped {_frames(sum(report.fabric_drops.values()))}"
    liars = sorted({fault.node or fault.eni for fault in report.faults if fault.poisons})
    poison = f", {' and '.join(liars)} poisoned" if liars else ""
    return f"{'OK' if report.ok else 'NOT OK'}: {paths}, {drops}{poison}"
