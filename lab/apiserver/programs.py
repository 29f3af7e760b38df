"""The programs of a control plane: found in a directory, run with their output in a log, killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.messages import LabError

VARIABLE = "TERWAY_KUBE_BIN"
"""Environment variable: the directory that is used where none is named."""
ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
KUBELET = "kubelet"
KUBE_PROXY = "kube-proxy"
_OF_A_CLUSTER = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KUBELET, KUBE_PROXY)
_TAIL = 3
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Programs:
    """``controllers`` is empty where an API server runs by itself."""

    etcd: Path
    api_server: Path
    controllers: tuple[Path, ...] = ()


def find(directory: str, *, cluster: bool = False) -> Programs:
    """The programs of ``directory``. Raises LabError that names the first one that is missing."""
    root = Path(directory)
    if not root.is_absolute():
        raise LabError(f"kube_bin is {directory!r}, wanted: an absolute path")
    for name in _OF_A_CLUSTER if cluster else (ETCD, API_SERVER):
        path = root / name
        if not path.is_file() or not os.access(path, os.X_OK):
            what = "is not executable" if path.exists() else "is not there"
            raise LabError(
                f"{path} {what}; kube_bin wants a directory with {_wanted(cluster)}, "
                "or nothing for the lab's own API server"
            )
    controllers = (root / CONTROLLER_MANAGER, root / SCHEDULER) if cluster else ()
    return Programs(root / ETCD, root / API_SERVER, controllers)


def _wanted(cluster: bool) -> str:
    return ", ".join(_OF_A_CLUSTER) if cluster else f"{ETCD} and {API_SERVER}"


class Program:
    """One of them as a child of this process."""

    def __init__(self, path: Path, log: Path) -> None:
        self.name = path.name
        self._path = path
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, arguments: Sequence[str]) -> None:
        """Its output is appended to the log. Raises LabError if it cannot be executed."""
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                [str(self._path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Nothing of the machine's, proxies above all.
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        except OSError as exc:
            raise LabError(f"{self._path} does not start: {exc.strerror}") from exc
        finally:
            os.close(log)

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raises LabError with the log's last lines if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"{self._path} ended with {self._process.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The log's last lines, as one."""
        with self._log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-_TAIL:]) or "its log is empty"
