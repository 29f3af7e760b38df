"""What a real API server keeps in the lab's state directory: made at ``up``, removed with it at ``down``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KubeDir:
    root: Path

    def certificate(self, who: str) -> Path:
        """PEM; ``ca`` is the authority's."""
        return self.root / f"{who}.crt"

    def key(self, who: str) -> Path:
        return self.root / f"{who}.key"

    def kubeconfig(self, who: str) -> Path:
        """``admin`` may do everything, ``agent`` what deploy/rbac.json says."""
        return self.root / f"{who}.kubeconfig"

    def log(self, program: str) -> Path:
        return self.root / f"{program}.log"

    @property
    def data(self) -> Path:
        """Of etcd. 128 MiB are set aside at once for its log."""
        return self.root / "etcd"

    @property
    def audit_policy(self) -> Path:
        return self.root / "audit.json"

    @property
    def audit_log(self) -> Path:
        """One JSON object per line and stage of each request."""
        return self.root / "audit.log"


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner reads. Raises OSError if it is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
