"""Which way the packets went that a cluster's pods sent: by eBPF, or by the stack and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.messages import LabError
from lab.nodes.node import LabNode

COUNTERS = "/bpf/counters"
_HOOK = "pod_egress"
_FAST = "fast_"
_NEVER_FAST = frozenset(
    {
        "stack_service",
        "stack_node",
        "stack_flow",
        "stack_quote",
        "stack_host_cidr",
        "stack_link_scope",
        "stack_link_talk",
        "stack_not_host",
        "stack_not_ip",
    }
)
"""To a Service, to the node, replies to either, and what never leaves a link: by design the stack's."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Packets at the hook that sees everything a pod sends, once each; by reason.

    Counters are the node's, not the pod's: they outlive the pods that a test makes and deletes.
    """

    packets: Mapping[str, int]

    def __sub__(self, other: Carried) -> Carried:
        """What came since ``other``. Raises LabError if the counters were started anew in between."""
        grown = {reason: now - other.packets.get(reason, 0) for reason, now in self.packets.items()}
        if any(count < 0 for count in grown.values()) or other.packets.keys() - self.packets.keys():
            raise LabError("the fast path's counters were started anew meanwhile, and say nothing")
        return Carried({reason: count for reason, count in grown.items() if count})

    @property
    def all(self) -> int:
        return sum(self.packets.values())

    @property
    def fast(self) -> int:
        return sum(count for reason, count in self.packets.items() if reason.startswith(_FAST))

    @property
    def between_pods(self) -> int:
        """Without what is the stack's by design."""
        return sum(count for reason, count in self.packets.items() if reason not in _NEVER_FAST)

    def __str__(self) -> str:
        if not self.all:
            return "pods sent nothing that the fast path saw: it is off or not there"
        direct = _share(self.fast, self.between_pods)
        return (
            f"pods sent {self.all} packets, {_share(self.fast, self.all)} of them by eBPF; "
            f"of the {self.between_pods} that are for no Service and no node {direct} went by eBPF"
        )

    def reasons(self) -> tuple[tuple[str, int], ...]:
        """The most frequent first."""
        return tuple(sorted(self.packets.items(), key=lambda item: (-item[1], item[0])))


def of_nodes(nodes: Iterable[LabNode]) -> Carried:
    """The counters of all, added up. A node whose terwayd has no fast path adds none.

    Raises LabError if a terwayd does not answer.
    """
    total: Counter[str] = Counter()
    for node in nodes:
        try:
            status, body = node.agent_get(COUNTERS)
        except OSError as exc:
            raise LabError(f"node {node.name}: terwayd does not answer GET {COUNTERS}: {exc}") from exc
        if status == 200:
            total.update(of_rows(json.loads(body)))
    return Carried(dict(total))


def of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The answer to COUNTERS, as far as it is about what pods send."""
    return {str(row["reason"]): int(row["packets"]) for row in rows if row["hook"] == _HOOK}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
