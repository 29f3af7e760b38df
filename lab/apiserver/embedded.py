"""The lab's small API server, in the lab's own process: there at once, and open to everyone in the VPC."""

from __future__ import annotations

import contextlib
import threading

from lab.apiserver.access import PLAIN_URL
from lab.apiserver.port import Object, node_object
from lab.kube.discovery import VERSION
from lab.kube.resources import NODES
from lab.kube.server import KubeServer
from lab.kube.status import ApiError
from lab.kube.store import Preconditions, Store, Target
from lab.messages import LabError
from lab.nodes.host import Host
from lab.spec import KUBERNETES_ADDRESS, KUBERNETES_PORT


class EmbeddedServer:
    """Implements ``ApiServer``."""

    def __init__(self) -> None:
        self._store = Store()
        self._server = KubeServer(self._store)
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            try:
                self._server.start(str(KUBERNETES_ADDRESS), KUBERNETES_PORT)
            except RuntimeError as exc:
                raise LabError(str(exc)) from exc

    def stop(self) -> None:
        with self._lock:
            self._server.stop()

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        return self._server.requests

    def describe(self) -> Object:
        return {"server": f"embedded, as of {VERSION['gitVersion']}", "url": PLAIN_URL, "kubeconfig": ""}

    def add_node(self, host: Host) -> None:
        self.remove_node(host.name)
        self._store.create(Target(NODES), node_object(host))

    def remove_node(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self._store.delete(Target(NODES, name=name), Preconditions())
