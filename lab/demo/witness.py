"""What carried a cell's packets, told from how far the counters of its nodes moved. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lab.demo.counters import Counts, Fast
from lab.demo.matrix import Cell, Packets, Path


def path_of(cell: Cell, moved: Mapping[str, Counts], least: int) -> Path:
    """``moved`` by node, of every node of the cell. ``least`` packets must have gone each way at each pod.

    ebpf takes that the stack forwarded nothing at all. What a daemon talks meanwhile shows in what its node
    delivered, so that counts for those cells only that end there.
    """
    fast = [f for ends in _fast(cell, moved) for f in (ends.sent, ends.received)]
    by_stack = any(_by_stack(cell, counts) for counts in moved.values())
    if any(fast):
        if by_stack:
            return Path.BOTH
        return Path.EBPF if min(fast) >= least else Path.UNSEEN
    return Path.STACK if by_stack else Path.UNSEEN


def packets_of(cell: Cell, moved: Mapping[str, Counts]) -> Packets:
    """Each packet of the fast path counts once, where it began; a forwarding counts at each node."""
    sent = sum(fast.sent for fast in _fast(cell, moved))
    return Packets(sent, sum(counts.forwarded for counts in moved.values()))


def _by_stack(cell: Cell, counts: Counts) -> bool:
    own = counts.delivered if cell.ends_on_own_host else 0
    return bool(counts.forwarded or counts.expired or own)


def _fast(cell: Cell, moved: Mapping[str, Counts]) -> list[Fast]:
    return [moved[pod.node].of(pod.address(cell.family)) for pod in cell.pods]
