"""What a node sees as its files: the machine's, with everything that a node owns laid over.

Nothing is created on the machine's own filesystem: mount points that it lacks (/etc/cni, /opt/cni) appear in
an overlay whose upper layer is a tmpfs of the node. Private directories lie in the lab's state directory and
outlive a reboot; /run and /tmp do not. Everything is private to the node's mount namespace, which is shared
among the node's own children last (``rshared``), so that a pod's mounts propagate as on a real node.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.nodes.cgroups import Hierarchy, mount_in_node
from lab.nodes.syscalls import Mount, mount, unmount
from lab.statedir import PRIVATE, NodeDir

KERNEL_WIDE = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""Settings of no namespace that a kubelet writes: a node has files of its own in their place in /proc/sys."""
_SAFE = Mount.NOSUID | Mount.NODEV
_HIDDEN = ("/run", "/tmp", "/var/lib", "/var/log")


@dataclass(frozen=True, slots=True)
class Layout:
    directory: NodeDir
    hostname: str
    groups: tuple[Hierarchy, ...]
    keep: tuple[str, ...] = ()
    """Directories that stay visible even below a hidden one: the product's source, the interpreter."""


def detach_from_machine() -> None:
    """In a fresh mount namespace: no mount goes out or comes in, and /proc is of this pid namespace."""
    mount("none", "/", "", Mount.RECURSIVE | Mount.PRIVATE)
    _proc()


def assemble(layout: Layout) -> None:
    """In a fresh mount, network, cgroup and pid namespace of a node."""
    detach_from_machine()
    _sys(layout.groups)
    _etc_and_opt(layout)
    kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _endangered(layout.keep)}
    private = {
        inside: os.open(layout.directory.root / name, os.O_PATH | os.O_CLOEXEC)
        for name, inside in PRIVATE.items()
    }
    boot_id = os.open(layout.directory.boot_id, os.O_PATH | os.O_CLOEXEC)
    settings = _own_settings(layout.directory)
    for inside, fd in private.items():
        _bind(fd, inside)
    _bind(boot_id, "/proc/sys/kernel/random/boot_id")
    for path, fd in settings.items():
        _bind(fd, path)
    mount("tmpfs", "/tmp", "tmpfs", _SAFE, "mode=1777")
    mount("tmpfs", "/run", "tmpfs", _SAFE, "mode=755")
    for name in ("lock", "netns"):
        os.mkdir(f"/run/{name}", 0o755)
    for path, fd in kept.items():
        os.makedirs(path, exist_ok=True)
        _bind(fd, path)
    for fd in (*kept.values(), *private.values(), *settings.values(), boot_id):
        os.close(fd)
    # Last: on shared mounts the detaching above would also take the original's children.
    mount("none", "/", "", Mount.RECURSIVE | Mount.SHARED)


def _own_settings(directory: NodeDir) -> dict[str, int]:
    """Files that begin with the machine's values, by the path they are to take."""
    opened = {}
    for name in KERNEL_WIDE:
        path = Path("/proc/sys") / name
        if path.exists():
            own = directory.setting(name)
            own.write_text(path.read_text())
            opened[str(path)] = os.open(own, os.O_PATH | os.O_CLOEXEC)
    return opened


def _proc() -> None:
    unmount("/proc")
    mount("proc", "/proc", "proc", _SAFE | Mount.NOEXEC)


def _sys(groups: tuple[Hierarchy, ...]) -> None:
    """sysfs belongs to the network namespace that mounts it: a fresh one shows the node's devices."""
    unmount("/sys")
    mount("sysfs", "/sys", "sysfs", _SAFE | Mount.NOEXEC)
    mount_in_node(groups)
    mount("bpf", "/sys/fs/bpf", "bpf", _SAFE | Mount.NOEXEC, "mode=700")


def _etc_and_opt(layout: Layout) -> None:
    scratch = layout.directory.scratch
    mount("tmpfs", str(scratch), "tmpfs", _SAFE, "mode=700")
    for path in ("/etc", "/opt"):
        upper, work = scratch / f"{path[1:]}-upper", scratch / f"{path[1:]}-work"
        upper.mkdir(mode=0o755)
        work.mkdir()
        for inside in PRIVATE.values():
            if inside.startswith(path + "/"):
                (upper / inside[len(path) + 1 :]).mkdir(parents=True)
        mount("overlay", path, "overlay", Mount.NONE, f"lowerdir={path},upperdir={upper},workdir={work}")
    _write("/etc/hostname", f"{layout.hostname}\n")
    _write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {layout.hostname}\n")
    _write("/etc/resolv.conf", "# a lab's node has no resolver\n")


def _write(path: str, text: str) -> None:
    """Replace, not write through: on the machine it may be a link to a file below /run."""
    Path(path).unlink(missing_ok=True)
    Path(path).write_text(text)


def _endangered(keep: Iterable[str]) -> list[str]:
    return [p for p in keep if any(p == h or p.startswith(h + "/") for h in _HIDDEN) and os.path.isdir(p)]


def _bind(fd: int, target: str) -> None:
    mount(f"/proc/self/fd/{fd}", target, "", Mount.BIND | Mount.RECURSIVE)
