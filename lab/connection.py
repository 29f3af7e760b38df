"""What a client of a running lab stands on: its control socket, its specification, its API server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab import messages
from lab.apiserver import access
from lab.apiserver.files import KubeDir
from lab.kube_client import KubeClient
from lab.messages import LabError
from lab.spec import LabSpec
from lab.spec_json import decode_spec
from lab.statedir import LabDir


class Connection:
    """To the lab of ``directory``. Raises LabError if it does not answer."""

    def __init__(self, directory: LabDir) -> None:
        self.directory = directory
        self.name = directory.name
        self.spec: LabSpec = decode_spec(self.call("spec"))
        self._kubernetes: KubeClient | None = None

    def close(self) -> None:
        """Let go of a lab that goes on: one that was attached to, or started with ``keep``."""
        if self._kubernetes is not None:
            self._kubernetes.close()
            self._kubernetes = None

    def call(self, verb: str, **arguments: Any) -> Any:
        """The lab's answer to one verb of ``lab.engine.verbs``."""
        value, files = self.call_with_files(verb, **arguments)
        messages.close(files)
        return value

    def call_with_files(
        self, verb: str, files: Sequence[int] = (), **arguments: Any
    ) -> tuple[Any, list[int]]:
        try:
            return messages.call(self.directory.control, {"verb": verb, **arguments}, files)
        except OSError as exc:
            raise LabError(f"lab {self.name!r} does not answer: {exc.strerror}") from exc

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("status")
        return answer

    def netns_fd(self, owner: str) -> int:
        """An open file of the network namespace of a node, of ``cloud`` or of ``outside``."""
        return self.call_with_files("netns", owner=owner)[1][0]

    @property
    def kubernetes(self) -> KubeClient:
        """The lab's API server, reached from inside the cloud's namespace."""
        if self._kubernetes is None:
            tls = access.admin_tls(KubeDir(self.directory.kubernetes)) if self.spec.kube_bin else None
            self._kubernetes = KubeClient(self.netns_fd("cloud"), tls)
        return self._kubernetes

    def agent_kubeconfig(self) -> str:
        """How the agents reach the API server. A real one gives them the rights of deploy/rbac.json."""
        if not self.spec.kube_bin:
            return access.plain_kubeconfig()
        return KubeDir(self.directory.kubernetes).kubeconfig("agent").read_text()

    def stop_kubernetes(self) -> None:
        """The API server dies: its port is closed and every connection dropped. Its objects stay."""
        self.call("kubernetes.stop")
        self.close()  # of connections that are dead now

    def start_kubernetes(self) -> None:
        """Serve again what ``stop_kubernetes`` left. Raises LabError if it serves already."""
        self.call("kubernetes.start")

    def kubernetes_requests(self) -> list[tuple[str, str]]:
        """The latest thousand requests to the API server, oldest first: method, and path with query."""
        return [(method, path) for method, path in self.call("kubernetes.requests")]
