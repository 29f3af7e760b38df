"""Where a lab keeps its files: ``/run/terway-lab/<name>/``, or below TERWAY_LAB_DIR.

::

    control.sock         what clients talk to
    log/                 of the supervisor
    leftovers.json       pids and cgroup directories, for the ``down`` after a SIGKILL
    owner.json           which clone and process brought it up, and when
    kubernetes/          of a real API server: certificates, kubeconfigs, etcd's data, logs
    nodes/<node>/        holder.sock, holder.log, boot_id and the node's private directories
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_NAME = "lab"
CLUSTER = "cluster"
"""The name of the lab that `./run cluster` brings up."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")

PRIVATE = {
    "etc-cni": "/etc/cni",
    "etc-eni": "/etc/eni",
    "etc-kubernetes": "/etc/kubernetes",
    "opt-cni": "/opt/cni",
    "var-lib": "/var/lib",
    "var-log": "/var/log",
}
"""Directories that outlive a node's reboot: name in the node's state directory, and path in the node."""


def base() -> Path:
    return Path(os.environ.get("TERWAY_LAB_DIR") or "/run/terway-lab")


def check_name(name: str) -> str:
    """``name`` if it can name a lab or a node. Raises ValueError: it becomes a file, cgroup and host name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: use up to 40 lower-case letters, digits and inner dashes")
    return name


@dataclass(frozen=True, slots=True)
class NodeDir:
    root: Path

    @property
    def socket(self) -> Path:
        return self.root / "holder.sock"

    @property
    def log(self) -> Path:
        return self.root / "holder.log"

    @property
    def boot_id(self) -> Path:
        return self.root / "boot_id"

    def setting(self, name: str) -> Path:
        """In the place of /proc/sys/``name``."""
        return self.root / "sysctl" / name.replace("/", ".")

    @property
    def scratch(self) -> Path:
        """Mount point of a tmpfs that only the node sees: upper layers of its /etc and /opt."""
        return self.root / "scratch"

    def outside(self, path: str) -> Path:
        """Where the node's ``path`` lies on the machine. Raises ValueError if it is not in PRIVATE."""
        for name, inside in PRIVATE.items():
            if path == inside or path.startswith(inside + "/"):
                return self.root / name / path[len(inside) + 1 :]
        raise ValueError(f"{path} is not below one of {', '.join(PRIVATE.values())}")

    def make(self) -> None:
        for name in PRIVATE:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(exist_ok=True)
        (self.root / "sysctl").mkdir(exist_ok=True)
        for path in ("/etc/cni/net.d", "/opt/cni/bin"):
            self.outside(path).mkdir(exist_ok=True)


@dataclass(frozen=True, slots=True)
class LabDir:
    name: str
    root: Path

    @classmethod
    def of(cls, name: str) -> LabDir:
        return cls(check_name(name), base() / name)

    @property
    def control(self) -> Path:
        return self.root / "control.sock"

    @property
    def log(self) -> Path:
        return self.root / "log" / "supervisor.log"

    @property
    def leftovers(self) -> Path:
        return self.root / "leftovers.json"

    @property
    def owner(self) -> Path:
        return self.root / "owner.json"

    @property
    def kubernetes(self) -> Path:
        return self.root / "kubernetes"

    def node(self, name: str) -> NodeDir:
        return NodeDir(self.root / "nodes" / check_name(name))
