"""A lab that runs: the cloud, its servers, the fabric and the nodes, in one process of many threads.

This process is in the lab's pid and mount namespace, and its network namespace is the cloud's: what listens
here listens in the VPC. ``lab.engine.verbs`` is what others may ask of it.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Any

from datapath import namespace
from lab.apiserver.embedded import EmbeddedServer
from lab.apiserver.files import KubeDir
from lab.apiserver.port import ApiServer, Say
from lab.apiserver.programs import find
from lab.clock import LabClock
from lab.cloud.metadata import MetadataServer
from lab.cloud.openapi import OpenApiServer
from lab.cloud.state import CloudState
from lab.engine.nursery import Nursery
from lab.engine.outside import serve_echo
from lab.engine.reconcile import Reconciler
from lab.fabric.errors import PlugError
from lab.fabric.fabric import Fabric
from lab.fabric.view import FabricView, Port, PortKind
from lab.families import stack_of
from lab.messages import LabError, Value
from lab.nodes import network
from lab.nodes.host import Host
from lab.nodes.network import FAR_GATEWAYS, HostNetwork, Interface
from lab.nodes.remote import RemoteNode
from lab.spec import (
    KUBERNETES_ADDRESS,
    KUBERNETES_ADDRESS_V6,
    METADATA_ADDRESS,
    OPENAPI_ADDRESS,
    OUTSIDE_ADDRESS,
    OUTSIDE_ADDRESS_V6,
    LabSpec,
    NodeSpec,
    gateway_of,
)
from lab.statedir import LabDir

if TYPE_CHECKING:
    from lab.kubernetes.runtime import NodeRuntime

CLOUD = "cloud"
OUTSIDE = "outside"
_HTTP = 80
_NODE_DEADLINE = 120.0
_POLL = 0.002

_PORTS = (
    Port(
        CLOUD,
        PortKind.SERVICE,
        CLOUD,
        "ee:00:00:00:00:01",
        frozenset({METADATA_ADDRESS, OPENAPI_ADDRESS, KUBERNETES_ADDRESS, KUBERNETES_ADDRESS_V6}),
        device="eth0",
    ),
    Port(
        OUTSIDE,
        PortKind.OUTSIDE,
        OUTSIDE,
        "ee:00:00:00:00:02",
        frozenset({OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6}),
        device="eth0",
    ),
)


class RunningLab:
    """Steps of its start that take long are told to ``say``."""

    def __init__(self, spec: LabSpec, directory: LabDir, nursery: Nursery, say: Say) -> None:
        self.spec = spec
        self.directory = directory
        self.clock = LabClock()
        self.cloud = CloudState(spec, self.clock)
        self._runtime: NodeRuntime | None = None
        self.kubernetes = self._api_server(say)
        self.pods: dict[str, Value] = {}
        """Records of the pods that clients made, by namespace/name; the lab only keeps them."""
        self._nursery = nursery
        self._nodes_lock = threading.RLock()
        self._namespaces = {CLOUD: namespace.own(), OUTSIDE: namespace.new()}
        self._configured: set[str] = set()
        self.fabric = Fabric(self._namespaces.__getitem__)
        self.reconciler = Reconciler(self.cloud, self.clock, self._apply)
        self._over = threading.Event()

    def start(self) -> None:
        """Everything up and reachable when this returns. The nodes' processes have been forked before."""
        for node in self.spec.nodes:
            self._namespaces[node.name] = self._enter(node.name)
        serve_echo(self._namespaces[OUTSIDE])
        self.fabric.wire(self.spec.wire)
        self.reconciler.start()
        self.reconciler.settle()
        OpenApiServer(self.cloud).start(str(OPENAPI_ADDRESS), _HTTP)
        MetadataServer(self.cloud).start(str(METADATA_ADDRESS), _HTTP)
        if self._runtime is None:
            self.kubernetes.start()
        else:
            self._runtime.start([self.node(n.name) for n in self.spec.nodes], self.kubernetes.start)
        for node in self.spec.nodes:
            self._register(node)

    def wait(self) -> None:
        """Until somebody asks for ``shutdown``."""
        self._over.wait()

    def shut_down(self) -> None:
        self._over.set()

    def state(self) -> dict[str, Any]:
        """The cloud's write state; see ``CloudState.describe_state``."""
        return self.cloud.describe_state()

    # --- nodes ---

    def node(self, name: str) -> RemoteNode:
        """Raises LabError for a name that is no node of this lab."""
        if name not in self.node_names():
            raise LabError(f"no node {name!r}; there are {', '.join(self.node_names()) or 'none'}")
        return RemoteNode(name, self.directory.node(name))

    def node_names(self) -> tuple[str, ...]:
        return tuple(i["name"] for i in self.state()["instances"])

    def running_nodes(self) -> frozenset[str]:
        return self._nursery.running()

    def namespace_fd(self, owner: str) -> int:
        """Of a running node, the cloud or outside; the lab's own file. Raises LabError."""
        try:
            return self._namespaces[owner]
        except KeyError:
            raise LabError(f"{owner!r} is not running") from None

    def add_node(self, spec: NodeSpec) -> str:
        """A new instance with its node; the instance id."""
        with self._nodes_lock:
            instance = self.cloud.add_instance(spec)
            try:
                self._nursery.start(spec.name)
                self._namespaces[spec.name] = self._enter(spec.name)
                self._register(spec)
                self.reconciler.settle()
                self._run_kubelet(spec.name)
            except BaseException:
                self.remove_node(spec.name)
                raise
            return instance

    def remove_node(self, name: str) -> None:
        """Kill the node and release its instance."""
        with self._nodes_lock:
            self.node(name)
            self.kill_node(name)
            for instance in self.state()["instances"]:
                if instance["name"] == name:
                    self.cloud.remove_instance(instance["id"])
            self.kubernetes.remove_node(name)
            self.reconciler.settle()

    def kill_node(self, name: str) -> bool:
        """Power off: every process and kernel object is gone, its files stay. False if it was off."""
        with self._nodes_lock:
            fd = self._namespaces.pop(name, None)
            self._configured.discard(name)
            if fd is not None:
                # The device goes before the namespace: a namespace ends whenever the kernel gets to it.
                self.reconciler.settle()
                stopped = self._nursery.stop(name)
                os.close(fd)
                return stopped
            return self._nursery.stop(name)

    def reboot_node(self, name: str) -> None:
        with self._nodes_lock:
            node = self.node(name)
            self.kill_node(name)
            self._nursery.start(node.name)
            self._namespaces[name] = self._enter(name)
            self.reconciler.settle()
            self._run_kubelet(name)

    def _api_server(self, say: Say) -> ApiServer:
        if not self.spec.kube_bin:
            if self.spec.kubernetes is not None:
                raise LabError("a lab with kubernetes wants kube_bin, the directory of a cluster's programs")
            return EmbeddedServer()
        from lab.apiserver.real import RealServer  # makes certificates: 50 ms of imports

        cluster = self.spec.kubernetes is not None
        programs = find(self.spec.kube_bin, cluster=cluster)
        server = RealServer(programs, KubeDir(self.directory.kubernetes), say, stack_of(self.spec))
        if cluster:
            from lab.kubernetes.runtime import NodeRuntime

            self._runtime = NodeRuntime(self.spec, server, self._host)
        return server

    def _host(self, name: str) -> Host:
        """What a kubelet is told of its instance."""
        state = self.state()
        instance = next(i for i in state["instances"] if i["name"] == name)
        primary = next(e for e in state["enis"] if e["id"] == instance["enis"][0])
        return Host(
            name=name,
            provider_id=f"{self.spec.region}.i-{name}",
            instance_type=instance["type"],
            region=self.spec.region,
            zone=instance["zone"],
            address=instance["private_ip"],
            address_v6=next((a for a in primary["addresses"] if ":" in a), ""),
        )

    def _run_kubelet(self, name: str) -> None:
        """In a node that has just booted. Nothing in a lab whose nodes are no kubelets'."""
        if self._runtime is not None:
            self._runtime.boot(self.node(name))
            self._runtime.join(self.node(name))

    def _register(self, spec: NodeSpec) -> None:
        self.kubernetes.add_node(self._host(spec.name))

    def _enter(self, name: str) -> int:
        """The network namespace of a node that is starting. Raises LabError with what its log says."""
        remote = RemoteNode(name, self.directory.node(name))
        deadline = time.monotonic() + _NODE_DEADLINE
        while True:
            try:
                fd = remote.netns_fd()
                break
            except (LabError, ConnectionError) as exc:
                if name not in self._nursery.running() or time.monotonic() > deadline:
                    log = remote.directory.log.read_text().strip().splitlines()
                    raise LabError(f"node {name} does not start: {log[-1] if log else exc}") from exc
            time.sleep(_POLL)
        network.set_defaults(fd)
        return fd

    # --- the fabric ---

    def view(self) -> FabricView:
        """What the cloud says, for the namespaces that are there."""
        view = self.cloud.fabric_view()
        present = [p for p in (*_PORTS, *view.ports) if p.owner in self._namespaces]
        return replace(view, ports=tuple(present))

    def _apply(self) -> None:
        view = self.view()
        try:
            self.fabric.apply(view)
        except PlugError:
            self._configure(view)
            raise
        self._configure(view)

    def _configure(self, view: FabricView) -> None:
        """What the operating system of a host does with its first device when it appears."""
        for port in view.ports:
            if not port.device or port.owner in self._configured:
                continue
            netns = self._namespaces.get(port.owner)
            if netns is not None and network.exists(netns, port.device):
                network.configure(netns, self._host_network(port))
                self._configured.add(port.owner)

    def _host_network(self, port: Port) -> HostNetwork:
        if port.kind != PortKind.ENI:
            return HostNetwork(
                port.device, tuple(ip_interface(str(a)) for a in port.addresses), FAR_GATEWAYS, pinned=True
            )
        state = self.state()
        primary = next(i["private_ip"] for i in state["instances"] if i["name"] == port.owner)
        addresses = [a for a in port.addresses if a.version == 6 or a == IPv4Address(primary)]
        subnets = [(a, s) for a in addresses for s in self._cidrs() if a in s]
        interfaces: list[Interface] = [ip_interface(f"{a}/{s.prefixlen}") for a, s in subnets]
        return HostNetwork(port.device, tuple(interfaces), tuple(gateway_of(s) for _, s in subnets))

    def _cidrs(self) -> list[IPv4Network | IPv6Network]:
        return [c for v in self.spec.vswitches for c in (v.cidr, v.cidr_v6) if c is not None]
