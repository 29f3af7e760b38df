"""What is pinned, compared with what this process holds open, and pinned again.

A pin is a name. Packets need none, but the next process finds maps, programs and links by it: a map without
its pin is made anew there, empty. A new name is made beside the old one and renamed over it, so that whoever
opens the name finds the one object or the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datapath.acceleration import bpf_call
from datapath.acceleration.bpf_call import Identity
from datapath.difference import Difference, ObjectKind
from datapath.ebpf import libbpf
from datapath.errors import KernelError

_FRESH = "fresh_"
"""Before the name of a pin that is about to be renamed; a bpf file system allows no dots."""


@dataclass(slots=True)
class Kept:
    """``mend`` for pins that are looked at again and again.

    A name in a bpf file system is of one object for good: another object has another inode, whose number is
    used once. So where names and inodes are as they were when all was well, nothing has to be opened.
    """

    _good: tuple[object, Mapping[Path, int]] | None = None

    def mend(self, pins: Mapping[Path, int]) -> list[Difference]:
        """As ``mend`` below."""
        found = _inodes(pins)
        if self._good is not None and self._good == (found, pins):
            return []
        self._good = None
        done = mend(pins)
        if not done and found is not None:
            self._good = found, dict(pins)
        return done


def _inodes(pins: Mapping[Path, int]) -> object | None:
    """Of every name beside the pins, and of the directories; None if one of those is gone."""
    found = []
    for directory in sorted({path.parent for path in pins}):
        try:
            about = os.stat(directory)
            with os.scandir(directory) as names:
                inodes = frozenset((one.name, one.inode()) for one in names)
        except OSError:
            return None
        found.append((about.st_dev, about.st_ino, inodes))
    return tuple(found)


def mend(pins: Mapping[Path, int]) -> list[Difference]:
    """``pins``: descriptors by path. Raises KernelError or OSError for one that fails, after the others."""
    done, refused = [], None
    for path, fd in pins.items():
        try:
            found = pinned(path)
            if found != bpf_call.identity(fd):
                put(fd, path)
                instead = "absent" if found is None else f"another {found.kind}"
                done.append(Difference(ObjectKind.PIN, f"pin {path}", instead))
        except (KernelError, OSError) as exc:
            refused = exc
    if refused is not None:
        raise refused
    return done


def pinned(path: Path) -> Identity | None:
    """What is pinned there; None for nothing, an Identity of no kind for what is no BPF object."""
    if not path.exists():
        return None
    try:
        fd = libbpf.open_pinned(str(path))
    except KernelError:
        return Identity("", 0)
    try:
        return bpf_call.identity(fd)
    finally:
        os.close(fd)


def put(fd: int, path: Path) -> None:
    """Pin it there, in place of whatever has the name. Raises KernelError, or OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        remove(path)
    fresh = path.with_name(_FRESH + path.name)
    fresh.unlink(missing_ok=True)
    libbpf.pin(fd, str(fresh))
    fresh.rename(path)


def remove(path: Path) -> None:
    """The pin, or whatever has its name; succeeds for the absent."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
