"""What a lab must not touch: everything of the machine's own namespaces, read by other tools than ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from lab.cleanup import start_time
from lab.nodes.cgroups import hierarchies
from lab.statedir import LabDir

_QUERIES = (
    ("ip", "-d", "link", "show"),
    ("ip", "addr", "show"),
    ("ip", "-4", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "-4", "rule", "show"),
    ("ip", "-6", "rule", "show"),
    ("nft", "list", "ruleset"),
)
_COUNTS = {"nf_conntrack_count"}
"""Files below /proc/sys/net that are no settings."""
_DIRECTORIES = ("/", "/etc", "/opt", "/run", "/var/lib", "/var/log", "/root")
_OTHERS = {"terway-lab"}
"""Labs that somebody else has up meanwhile; those of these tests are elsewhere."""


@dataclass(frozen=True, slots=True)
class Machine:
    network: dict[str, str]
    sysctls: dict[str, str]
    mounts: tuple[str, ...]
    directories: dict[str, tuple[str, ...]]

    def differences(self, later: Machine) -> list[str]:
        """One line per value that is not as it was."""
        result = []
        for field in fields(self):
            before, after = getattr(self, field.name), getattr(later, field.name)
            if isinstance(before, dict):
                result += [
                    f"{key}: {before[key]!r} -> {after.get(key)!r}"
                    for key in before
                    if before[key] != after.get(key)
                ]
            elif before != after:
                result.append(f"{field.name}: {set(before) ^ set(after)}")
        return result


def look() -> Machine:
    return Machine(
        network={" ".join(query): _run(query) for query in _QUERIES if shutil.which(query[0])},
        sysctls=_sysctls(),
        mounts=tuple(Path("/proc/self/mountinfo").read_text().splitlines()),
        directories={d: tuple(sorted(set(os.listdir(d)) - _OTHERS)) for d in _DIRECTORIES},
    )


def _run(query: tuple[str, ...]) -> str:
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout


def _sysctls() -> dict[str, str]:
    values = {}
    for directory, _, names in os.walk("/proc/sys/net"):
        for name in set(names) - _COUNTS:
            path = f"{directory}/{name}"
            try:
                values[path] = Path(path).read_text()
            except OSError:
                continue  # write-only, or of a protocol that is not there
    return values


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything by which a running lab can be found on the machine."""

    processes: dict[int, int]
    """pid to start time: the warden, and all below it."""
    groups: tuple[Path, ...]
    directory: Path

    def running(self) -> list[int]:
        return [pid for pid, started in self.processes.items() if start_time(pid) == started]

    def left(self) -> list[str]:
        """What of it is still there."""
        alive = [f"process {pid}" for pid in self.running()]
        groups = [f"group {g}" for g in self.groups if g.exists()]
        return alive + groups + ([f"directory {self.directory}"] if self.directory.exists() else [])


def traces(name: str) -> Traces:
    """Of the lab that runs under ``name``; asserts that there is something to find."""
    directory = LabDir.of(name)
    record = json.loads(directory.leftovers.read_text())
    pids = _descendants({int(pid) for pid in record["processes"]})
    processes = {pid: started for pid in pids if (started := start_time(pid)) is not None}
    groups = tuple(h.lab(name) for h in hierarchies())
    found = Traces(processes, groups, directory.root)
    assert len(processes) >= 4, f"warden, process 1, worker and nodes: {processes}"
    assert all(g.exists() for g in groups)
    return found


def _descendants(pids: set[int]) -> set[int]:
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
