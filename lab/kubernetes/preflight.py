"""What a machine must have left before a cluster is brought up on it. An error says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.apiserver.port import Say
from lab.client import Lab
from lab.kubernetes import binaries
from lab.kubernetes.commands import typed
from lab.messages import LabError
from lab.statedir import LabDir, base

_GIB = 1 << 30
_STATE = int(1.5 * _GIB)
"""Bytes on the disk with the lab's state: two nodes' images and what pods write, etcd's files, logs."""
_FIRST_BUILD = 9 * _GIB
"""Bytes in the cache while Kubernetes is built: the go command's caches, programs, images."""
_LATER = 1 * _GIB
_MEMORY = 1 * _GIB


def check(name: str, say: Say, *, version: str = binaries.VERSION) -> None:
    """Raises LabError if lab ``name`` is up, or if a disk is too full. What it takes is said.

    ``version`` of Kubernetes takes more room if it is not built yet.
    """
    if LabDir.of(name).control.exists():
        _refuse_second(name)
    state = _check_disk(base(), _STATE, "name a directory of another disk in TERWAY_LAB_DIR")
    free = available(Path("/proc/meminfo").read_text())
    if free < _MEMORY:
        say(f"{free / _GIB:.1f} GiB of memory are available, and a cluster takes {_MEMORY / _GIB:.1f}")
    wanted = _LATER if binaries.are_built(version) else _FIRST_BUILD
    remedy = f"make room there; `rm -rf {binaries.CACHE}/go` costs minutes later"
    cache = _check_disk(binaries.CACHE, wanted, remedy)
    say(
        f"disk: {_of(_STATE, state)} in {base()}; {_of(wanted, cache)} in {binaries.CACHE}"
        f"{'' if wanted == _LATER else ', where Kubernetes is built'}"
    )


def available(meminfo: str) -> int:
    """Bytes that new processes may have, by the text of /proc/meminfo."""
    (line,) = (line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10


def _refuse_second(name: str) -> None:
    try:
        Lab.attach(name).close()
    except LabError:
        return  # What a killed one has left is removed when the next one starts.
    raise LabError(f"a cluster {name!r} is up already; end it with `{typed(name, 'down')}`")


def _of(wanted: int, free: int) -> str:
    return f"up to {wanted / _GIB:.1f} of {free / _GIB:.0f} free GiB"


def _check_disk(directory: Path, wanted: int, remedy: str) -> int:
    """Free bytes. Raises LabError if they are too few."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise LabError(
            f"{directory} has {free / _GIB:.1f} GiB free, and a cluster wants {wanted / _GIB:.1f}: {remedy}"
        )
    return free
