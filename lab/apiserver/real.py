"""A real etcd and kube-apiserver in the cloud's namespace, children of the lab's worker: they end with it.

etcd listens on the namespace's loopback, which no node reaches. The API server has TLS, RBAC and the default
admission plugins. By itself it lacks ServiceAccount among them, because the default account of a namespace
comes from a controller manager; in a cluster that runs beside it, with a scheduler. The agents' identity is
the service account of ``deploy/rbac.json`` with a token of the TokenRequest API, as a pod of a DaemonSet has
it; the lab itself is an administrator.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path

from datapath import namespace
from lab.apiserver import access, arguments, audit, certificates
from lab.apiserver.certificates import Authority, User
from lab.apiserver.files import KubeDir, write_private
from lab.apiserver.port import Object, Say, node_object
from lab.apiserver.programs import API_SERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER, Program, Programs
from lab.families import kubernetes_service, server_address
from lab.kube_client import KubeClient, KubeError
from lab.messages import LabError
from lab.nodes.host import Host
from lab.spec import KUBERNETES_ADDRESS, IpStack

RIGHTS = Path(__file__).resolve().parent.parent.parent / "deploy" / "rbac.json"
_ACCOUNT = "/api/v1/namespaces/kube-system/serviceaccounts/terway"
_PATHS = {
    "ServiceAccount": "/api/v1/namespaces/kube-system/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
_TOKEN_SECONDS = 365 * 24 * 3600
_COMPONENTS = {
    "controller-manager": User("system:kube-controller-manager"),
    "scheduler": User("system:kube-scheduler"),
    "kubelet-client": User("kube-apiserver-kubelet-client", "system:masters"),
    "front-proxy": User(arguments.FRONT_PROXY),
}
"""Who has a certificate in a cluster, beside server, administrator and nodes."""
_FIRST_DEADLINE = 240.0
_AGAIN_DEADLINE = 240.0
"""A client of the lab waits for the answer: shorter than ``lab.messages.ANSWER_TIMEOUT``."""
_POLL = 0.05
_TOLD_EVERY = 5.0


class RealServer:
    """Implements ``ApiServer``. What takes time is told to ``say``.

    Everybody's way in but the lab's own is by the primary family of ``stack``.
    """

    def __init__(
        self, programs: Programs, directory: KubeDir, say: Say, stack: IpStack = IpStack.IPV4
    ) -> None:
        self._directory = directory
        self._stack = stack
        self._url = access.secure_url(server_address(stack))
        self._say = say
        self._etcd = Program(programs.etcd, directory.log(ETCD))
        self._server = Program(programs.api_server, directory.log(API_SERVER))
        self._controllers = tuple(Program(path, directory.log(path.name)) for path in programs.controllers)
        self._authority: Authority | None = None
        self._lock = threading.Lock()
        self._client: KubeClient | None = None
        self._version = ""

    def start(self) -> None:
        with self._lock:
            if self._server.running:
                raise LabError("the API server already runs")
            first = self._client is None
            if first:
                self._prepare()
            self._say(f"starting {ETCD} and {API_SERVER}" if first else f"starting {API_SERVER}")
            if not self._etcd.running:
                self._etcd.start(arguments.etcd(self._directory))
            words = arguments.api_server(self._directory, cluster=self.cluster, stack=self._stack)
            self._server.start(words)
            self._await_ready(time.monotonic(), _FIRST_DEADLINE if first else _AGAIN_DEADLINE)
            self._start_controllers()
            if first:
                self._seed()

    def stop(self) -> None:
        with self._lock:
            self._server.kill()

    @property
    def cluster(self) -> bool:
        """Whether controllers run beside it, and nodes register themselves."""
        return bool(self._controllers)

    def kubeconfig(self, user: User) -> str:
        """A way in for ``user``, with a certificate of its own. Raises LabError before ``start``."""
        if self._authority is None:
            raise LabError("the API server was not started")
        pair = self._authority.client(user)
        known = access.certified_user(pair.certificate, pair.key)
        return access.secure_kubeconfig(self._directory, known, self._url)

    def authority(self) -> str:
        """The authority's certificate, PEM."""
        return self._directory.certificate("ca").read_text()

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        return audit.requests(self._directory.audit_log)

    def describe(self) -> Object:
        return {
            "server": f"{API_SERVER} {self._version}",
            "url": self._url,
            "kubeconfig": str(self._directory.kubeconfig("admin")),
        }

    def add_node(self, host: Host) -> None:
        if self.cluster:
            return
        client = self._connected()
        node = node_object(host)
        try:
            client.request("POST", "/api/v1/nodes", node)
        except KubeError as exc:
            if exc.status != 409:
                raise
            client.request("DELETE", f"/api/v1/nodes/{host.name}")
            client.request("POST", "/api/v1/nodes", node)

    def remove_node(self, name: str) -> None:
        with contextlib.suppress(KubeError):
            self._connected().request("DELETE", f"/api/v1/nodes/{name}")

    def _connected(self) -> KubeClient:
        if self._client is None:
            raise LabError("the API server was not started")
        return self._client

    def _prepare(self) -> None:
        """Everything that the programs read, and the lab's own way in."""
        self._directory.root.mkdir(mode=0o700)
        service, server = kubernetes_service(self._stack), server_address(self._stack)
        addresses = {KUBERNETES_ADDRESS, server, service, IPv4Address("127.0.0.1")}
        self._authority = certificates.make(self._directory, tuple(addresses))
        if self.cluster:
            self._prepare_components(self._authority)
        write_private(self._directory.audit_policy, json.dumps(audit.POLICY).encode())
        admin = access.secure_kubeconfig(self._directory, access.admin_user(self._directory), self._url)
        write_private(self._directory.kubeconfig("admin"), admin.encode())
        self._client = KubeClient(namespace.own(), access.admin_tls(self._directory))

    def _prepare_components(self, authority: Authority) -> None:
        write_private(self._directory.key("ca"), authority.key_pem)
        for who, user in _COMPONENTS.items():
            authority.client(user).write(self._directory, who)
        for who in ("controller-manager", "scheduler"):
            text = self.kubeconfig(_COMPONENTS[who])
            write_private(self._directory.kubeconfig(who), text.encode())

    def _start_controllers(self) -> None:
        """Those that do not run: they outlive an API server, but not one that is away as they start."""
        lines = {
            CONTROLLER_MANAGER: arguments.controller_manager(self._directory, self._stack),
            SCHEDULER: arguments.scheduler(self._directory),
        }
        for program in self._controllers:
            if not program.running:
                program.start(lines[program.name])

    def _await_ready(self, begin: float, timeout: float) -> None:
        told = begin
        while why := self._connected().not_ready():
            for program in (self._etcd, self._server):
                program.check()
            now = time.monotonic()
            if now - begin > timeout:
                raise LabError(
                    f"{API_SERVER} was not ready after {timeout:.0f} s ({why}): {self._server.tail()}"
                )
            if now - told > _TOLD_EVERY:
                told = now
                self._say(f"  {now - begin:.0f} s: not ready yet")
            time.sleep(_POLL)
        self._version = str(self._connected().request("GET", "/version")["gitVersion"])
        self._say(f"{API_SERVER} {self._version} is ready after {time.monotonic() - begin:.1f} s")

    def _seed(self) -> None:
        """Namespaces that others come to later, the agents' account and rights, and its token."""
        client = self._connected()
        for name in ("default", "kube-system"):
            client.create_namespace(name)
        for item in json.loads(RIGHTS.read_text())["items"]:
            client.request("POST", _PATHS[item["kind"]], item)
        wanted = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }
        token = client.request("POST", f"{_ACCOUNT}/token", wanted)["status"]["token"]
        agent = access.secure_kubeconfig(self._directory, {"token": token}, self._url)
        write_private(self._directory.kubeconfig("agent"), agent.encode())
