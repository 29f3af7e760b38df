"""The control groups of a lab: one directory per hierarchy, one child per node, removed at the end.

Works with cgroup v1 (every hierarchy on its own), v2, and both beside each other. On v1 the lab stays below
the group it was started in, so that a limit on that group holds for the lab too. On v2 a group that holds
processes cannot give controllers to children, so the lab is a child of the hierarchy's visible root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.nodes.syscalls import Mount, Namespace, mount, unshare

ROOT = "/sys/fs/cgroup"
SYSTEM = "system.slice"
"""Where a node's own programs are, as systemd has it. Beside kubelet's group for pods they have one share of
the processors together; in the node's root each of their threads would have as much as a processor's pods."""
_LEAF = "init"
"""On v2 a node's processes start in a leaf, so that its root may hand controllers to children (kubelet's)."""
_REMOVE_RETRY = 0.05
"""Seconds until a group in use is tried again, if the kernel has not told of a change before."""
_SETTLE = 0.002
"""The same for one without processes: the kernel is about to let go of it."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    mount: Path
    """Where the machine has it."""
    controllers: str
    """``cpu,cpuacct`` or ``name=systemd``; "" is v2."""
    own: str
    """The group of this process in it, relative to ``mount``."""

    @property
    def unified(self) -> bool:
        return not self.controllers

    def lab(self, name: str) -> Path:
        below = self.mount if self.unified else self.mount / self.own
        return below / f"terway-lab-{name}"


def hierarchies() -> tuple[Hierarchy, ...]:
    """Those that this process's mount namespace shows. Empty on a machine without control groups."""
    mounts = _mounts(Path("/proc/self/mountinfo").read_text())
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for kind, options, root, where in mounts:
            same = kind == "cgroup2" if not controllers else set(controllers.split(",")) <= options
            if same:
                own = path[len(root) :] if root != "/" and path.startswith(root) else path
                found.append(Hierarchy(Path(where), controllers, own.strip("/")))
                break
    return tuple(found)


def _mounts(mountinfo: str) -> list[tuple[str, set[str], str, str]]:
    result = []
    for line in mountinfo.splitlines():
        left, right = line.split(" - ", 1)
        kind, _, options = right.split(" ")[:3]
        if kind in ("cgroup", "cgroup2"):
            words = left.split(" ")
            v1 = kind == "cgroup"
            result.append((kind, set(options.split(",")) if v1 else set(), words[3], words[4]))
    return result


def make_node(groups: Iterable[Hierarchy], lab: str, node: str) -> None:
    for hierarchy in groups:
        top = hierarchy.lab(lab)
        for path in (top, top / node):
            path.mkdir(exist_ok=True)
            if hierarchy.unified:
                _delegate(path)
            elif "cpuset" in hierarchy.controllers.split(","):
                _fill_cpuset(path)
        if hierarchy.unified:
            (top / node / _LEAF).mkdir(exist_ok=True)


def clear_node(groups: Iterable[Hierarchy], lab: str, node: str, *, deadline: float) -> None:
    """Remove what a node that has ended made in its groups: pods' groups, which no reboot leaves.

    Waits until ``deadline`` (of time.monotonic) for the last process. Raises OSError EBUSY after that.
    """
    for hierarchy in groups:
        with contextlib.suppress(FileNotFoundError), os.scandir(hierarchy.lab(lab) / node) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove(Path(entry.path), deadline=deadline)


def _fill_cpuset(path: Path) -> None:
    """A new v1 cpuset is empty and takes no process until it has processors and memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (path / name).read_text().strip():
            (path / name).write_text((path.parent / name).read_text())


def _delegate(path: Path) -> None:
    """Hand on the controllers that the machine gave us; its own groups are not changed for more."""
    given = (path / "cgroup.controllers").read_text().split()
    for controller in given:
        with contextlib.suppress(OSError):
            (path / "cgroup.subtree_control").write_text(f"+{controller}")


def enter_node(groups: Iterable[Hierarchy], lab: str, node: str) -> None:
    """Move this process into the node's groups and make them the root it sees."""
    groups = tuple(groups)
    for hierarchy in groups:
        (hierarchy.lab(lab) / node / "cgroup.procs").write_text("0")
    unshare(Namespace.CGROUP)
    for hierarchy in groups:
        if hierarchy.unified:
            (hierarchy.lab(lab) / node / _LEAF / "cgroup.procs").write_text("0")


def join(group: str, pid: int) -> None:
    """Move a process into ``group`` of the node that this process is of; it is made if it is missing.

    A process that has ended meanwhile is no error.
    """
    for hierarchy in hierarchies():
        path = hierarchy.mount / group
        path.mkdir(exist_ok=True)
        if "cpuset" in hierarchy.controllers.split(","):
            _fill_cpuset(path)
        with contextlib.suppress(ProcessLookupError):
            (path / "cgroup.procs").write_text(str(pid))


def mount_in_node(groups: Iterable[Hierarchy]) -> None:
    """Mount each hierarchy at its usual place below a fresh /sys; each shows the node's group as its root."""
    groups = tuple(groups)
    if not any(str(h.mount) == ROOT for h in groups):
        mount("tmpfs", ROOT, "tmpfs", Mount.NOSUID | Mount.NODEV | Mount.NOEXEC, "mode=755")
    for hierarchy in groups:
        target = str(hierarchy.mount)
        if target != ROOT:
            os.makedirs(target, exist_ok=True)
        kind = "cgroup2" if hierarchy.unified else "cgroup"
        mount(kind, target, kind, Mount.NOSUID | Mount.NODEV | Mount.NOEXEC, hierarchy.controllers)


def remove(top: Path, *, deadline: float) -> None:
    """Remove ``top`` and all groups below. Their processes must be dead or dying.

    Waits until ``deadline`` (of time.monotonic) for the last of them, and looks for groups anew each time: a
    runtime that is dying may still have made one. Raises OSError EBUSY after that, naming what is left.
    """
    while not _removed(top):
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, f"control groups are still in use: {'; '.join(_left(top))}", str(top))
        _await_change(top, min(_REMOVE_RETRY, max(0.0, deadline - time.monotonic())))


def _removed(top: Path) -> bool:
    """Remove what can be removed now; whether that was all."""
    for path, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
    return not top.exists()


def _await_change(top: Path, most: float) -> None:
    """Until the last process of ``top`` has gone, where the kernel tells (v2), and not above ``most``."""
    try:
        events = os.open(top / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        time.sleep(most)
        return
    try:
        if b"populated 1" not in os.read(events, 4096):
            time.sleep(min(most, _SETTLE))
            return
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        changed.poll(most * 1000)
    finally:
        os.close(events)


def _left(top: Path) -> list[str]:
    """Each group that is left, with its processes as this pid namespace numbers them (0: of another one)."""
    found = []
    for path, _, _ in os.walk(top):
        with contextlib.suppress(OSError):
            pids = Path(path, "cgroup.procs").read_text().split()
            found.append(f"{path} with {', '.join(map(_name_of, pids)) or 'no process'}")
    return found


def _name_of(pid: str) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} ({Path('/proc', pid, 'comm').read_text().strip()})"
    return pid
