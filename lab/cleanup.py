"""The end of a lab seen from outside: wait for its processes, and remove what a killed one could not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.messages import LabError
from lab.nodes import cgroups
from lab.statedir import LabDir

_GRACE = 15.0
"""Seconds for the lab to end by itself before it is killed. One that hears ends in well under one; on a
machine that has no time it is better waited for, since it puts back itself what it has changed."""
_DEADLINE = 240.0
"""Seconds, which nothing takes on a machine that has time: hundreds of processes may have to end."""
_GROUPS_DEADLINE = 240.0
_POLL = 0.003


def start_time(pid: int) -> int | None:
    """Of ``pid`` in clock ticks since boot, None if it does not run: with it a pid names one process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rsplit(")", 1)[1].split()
    return None if state in "ZX" else int(rest[18])


def clean(directory: LabDir, tops: Sequence[str]) -> None:
    """Remove control groups and files of a lab whose processes are dead or dying."""
    deadline = time.monotonic() + _GROUPS_DEADLINE
    for top in tops:
        cgroups.remove(Path(top), deadline=deadline)
    shutil.rmtree(directory.root, ignore_errors=True)
    # The base is ours too, but other labs may be in it.
    if not os.environ.get("TERWAY_LAB_DIR"):
        with contextlib.suppress(OSError):
            directory.root.parent.rmdir()


def warden_runs(directory: LabDir) -> bool:
    """Whether somebody holds the lab, though it may not answer: it starts, or it ends."""
    try:
        record = json.loads(directory.leftovers.read_text())
    except (FileNotFoundError, ValueError):
        return False
    # The last one; process 1 of the lab dies with it.
    *_, (pid, started) = record["processes"].items()
    return started is not None and start_time(int(pid)) == started


def remove(directory: LabDir) -> None:
    """Nothing of the lab is left when this returns. Its shutdown has been asked for, if it can hear.

    Raises LabError for a process that the kernel does not end, OSError for a control group in use.
    """
    try:
        record = json.loads(directory.leftovers.read_text())
    except FileNotFoundError:
        record = {"processes": {}, "groups": []}
    processes = {int(pid): started for pid, started in record["processes"].items()}
    kill_at = time.monotonic() + _GRACE
    deadline = time.monotonic() + _DEADLINE
    while running := _running(processes):
        if time.monotonic() > deadline:
            raise LabError(f"processes {running} of lab {directory.name} do not end")
        if time.monotonic() > kill_at:
            _kill(running)
        time.sleep(_POLL)
    clean(directory, record["groups"])


def _running(processes: Mapping[int, int | None]) -> list[int]:
    """Process 1 of the lab and its warden, if they have not ended; a pid in use anew does not count."""
    return [pid for pid, started in processes.items() if started is not None and start_time(pid) == started]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
