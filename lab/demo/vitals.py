"""What a daemon costs at rest: memory of all its processes, and CPU by the scheduler's own account."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Vitals:
    rss_mib: float
    """Of the daemon and of what it has started."""
    idle_cpu_percent: float
    """Of one core, by all of them."""
    started_mib: float = 0.0
    """Of ``rss_mib`` what it has started: the SDK worker, which ends when the cloud is not needed."""


def family(pid: int) -> list[int]:
    """The process and its descendants, as the machine numbers them."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def _cpu_ns(pids: list[int]) -> int:
    """Time on a CPU, summed over threads: first field of schedstat."""
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            continue
    return total


def _rss_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) if lines else 0


def measure(pids: dict[str, int], seconds: float) -> dict[str, Vitals]:
    """By node, over ``seconds`` of doing nothing."""
    families = {name: family(pid) for name, pid in pids.items()}
    before = {name: _cpu_ns(members) for name, members in families.items()}
    started = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    return {
        name: Vitals(
            round(sum(map(_rss_kib, members)) / 1024, 1),
            round((_cpu_ns(members) - before[name]) / elapsed / 1e7, 2),
            round(sum(map(_rss_kib, members[1:])) / 1024, 1),
        )
        for name, members in families.items()
    }
