"""Where a packet may have been lost: the kernel's own counters of pods and nodes, ours, and the fabric's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from datapath import namespace
from datapath.acceleration.layout import names_of
from datapath.acceleration.load import open_table
from datapath.ebpf import objects
from lab.client import Lab
from lab.nodes.node import LabNode
from tests.e2e.load import Pod

_SNMP = (
    "InDiscards",
    "OutDiscards",
    "OutNoRoutes",
    "ForwDatagrams",
    "InErrors",
    "RcvbufErrors",
    "SndbufErrors",
)

_IGNORANT = (
    "stack_off",
    "stack_pod_off",
    "stack_unknown_pod",
    "stack_no_pod",
    "stack_other_eni",
    "stack_no_eni",
)
_COUNTS = ("hook_counts", "reason_counts")
"""The map of packets by hook and reason, as this release pins it and as the one before did."""


@contextmanager
def by_ebpf_alone(*nodes: LabNode) -> Iterator[None]:
    """No packet took the stack because the programs did not know the pod, or were off."""
    before = [_by_table(node) for node in nodes]
    yield
    for node, then in zip(nodes, before, strict=True):
        grown = {key: now - then.get(key, 0) for key, now in _by_table(node).items() if key[2] in _IGNORANT}
        past = {key: by for key, by in grown.items() if by}
        assert not past, f"{node.name}: packets took the stack, {past}"


def counted(lab: Lab, nodes: Sequence[LabNode], pods: Sequence[Pod]) -> dict[str, int]:
    """All of them, by a name that says whose and what. Those of a map that is not there are left out."""
    found = {f"fabric {name}": count for name, count in lab.counters().items()}
    found |= {f"cpu {i} backlog drops": n for i, n in enumerate(_backlog_drops())}
    for node in nodes:
        found |= {f"{node.name} {name}": n for name, n in _stack(node.netns_fd())}
        found |= {f"{node.name} {name}": n for name, n in reasons(node).items()}
    for pod in pods:
        found |= {f"{pod.key} {name}": n for name, n in _stack(pod.netns_fd())}
    return found


def reasons(node: LabNode) -> dict[str, int]:
    """Packets by hook and reason, from the pinned maps, past the agent; empty if there is no fast path."""
    return {f"{hook} {reason}": count for (_, hook, reason), count in _by_table(node).items()}


def _by_table(node: LabNode) -> dict[tuple[str, str, str], int]:
    """By table, hook and reason. A table of another name begins at zero: nobody copies counts to it."""
    names = names_of(objects.path("pod_egress"))
    found: dict[tuple[str, str, str], int] = {}
    with ExitStack() as stack:
        for layout in sorted(Path(f"/proc/{node.pid}/root/sys/fs/bpf/terway").glob("v*")):
            for name in _COUNTS:
                table = open_table(layout / name, stack)
                for number, hook in enumerate(names.hooks if table is not None else ()):
                    assert table is not None
                    rows = table.get(np.frombuffer(number.to_bytes(4, "little"), table.key))
                    if rows is not None:  # the release before had a hook less
                        counts = rows["count"].sum(axis=0)
                        found |= {(name, hook, r): int(counts[i]) for i, r in enumerate(names.reasons)}
    return found


def _stack(netns: int) -> Iterator[tuple[str, int]]:
    """Of one network namespace, whose file is closed."""
    try:
        with namespace.entered(netns):
            snmp, snmp6, dev = (
                Path(f"/proc/thread-self/net/{n}").read_text() for n in ("snmp", "snmp6", "dev")
            )
    finally:
        os.close(netns)
    lines = [line.split() for line in snmp.splitlines()]
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        for name, value in zip(names[1:], values[1:], strict=True):
            if name in _SNMP and names[0] in ("Ip:", "Udp:"):
                yield f"{names[0]} {name}", int(value)
    for line in snmp6.splitlines():
        name, value = line.split()
        if name.removeprefix("Ip6").removeprefix("Udp6") in (*_SNMP, "OutForwDatagrams"):
            yield name, int(value)
    for line in dev.splitlines()[2:]:
        name, *numbers = line.replace(":", " ").split()
        yield f"{name} rx dropped", int(numbers[3])
        yield f"{name} tx dropped", int(numbers[11])


def _backlog_drops() -> list[int]:
    """Of the whole machine: packets that found the queue of a CPU full."""
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    return [int(line.split()[1], 16) for line in lines]
