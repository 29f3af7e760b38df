"""containerd, kubelet and kube-proxy in a node of the lab, started at each boot and whenever one ends.

Used by the lab's worker. Everything that the programs keep lies in the node's private directories, and so
outlives a reboot as on an instance's disk: images, kubelet's state, logs in /var/log.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datapath import namespace
from lab import families, messages
from lab.apiserver.certificates import User
from lab.apiserver.programs import KUBE_PROXY, KUBELET
from lab.apiserver.real import RealServer
from lab.kubernetes import node_config
from lab.kubernetes.image_store import ImageStore
from lab.kubernetes.node_images import import_image
from lab.messages import LabError
from lab.nodes import cgroups
from lab.nodes.host import Host
from lab.nodes.node import install_cli
from lab.nodes.process import NodeProcess, ended
from lab.nodes.remote import RemoteNode
from lab.spec import KubernetesSpec, LabSpec, ProxyMode

CONTAINERD = "containerd"
PLUGINS = Path("/usr/lib/cni")
"""Of the Debian package containernetworking-plugins."""
_PLUGINS_USED = ("loopback", "portmap")
"""containerd brings up a pod's ``lo`` by the first; the second carries host ports."""
_DEADLINE = 120.0
_PAUSE = 2.0
"""Seconds before a program that has ended is started again; kubeadm's units wait 5 to 10."""
_POLL = 0.02


def log_of(program: str) -> str:
    """The path in the node of what ``program`` writes."""
    return f"/var/log/{program}.log"


class NodeRuntime:
    """``hosts`` tells what the instance of a node is."""

    def __init__(self, spec: LabSpec, server: RealServer, hosts: Callable[[str], Host]) -> None:
        assert spec.kubernetes is not None
        self._spec = spec
        self._wanted: KubernetesSpec = spec.kubernetes
        self._server = server
        self._hosts = hosts
        self._keeping = threading.Lock()
        """Taken for good by the first node that keeps its images for later labs."""

    def boot(self, node: RemoteNode) -> None:
        """What needs no API server: containerd, with the images. Raises LabError."""
        _forward(node)
        link_plugins(node, _PLUGINS_USED)
        install_cli(node)
        node.write(f"{node_config.DIRECTORY}/containerd.toml", node_config.containerd())
        store = self._store()
        directory = node.directory.outside("/var/lib/containerd")
        has_images = directory.exists() or (store is not None and store.give(directory))
        if not has_images and store is not None and self._keeping.acquire(blocking=False):
            _start_containerd(node, again=False)
            self._import_images(node)
            _stop(node, CONTAINERD)
            store.keep(directory)
            has_images = True
        _start_containerd(node)
        if not has_images:
            self._import_images(node)

    def _import_images(self, node: RemoteNode) -> None:
        for image in self._wanted.images:
            import_image(node, Path(image))

    def _store(self) -> ImageStore | None:
        """None if nobody has named a place for one."""
        if not self._wanted.image_store:
            return None
        return ImageStore(Path(self._wanted.image_store), self._wanted.images)

    def join(self, node: RemoteNode) -> None:
        """kubelet and kube-proxy, with their ways into a cluster that serves. Raises LabError."""
        host = self._hosts(node.name)
        self._write_kubelet(node, host)
        words = node_config.kubelet_arguments(host, self._wanted.ip_stack)
        _start(node, self._program(KUBELET), words).close()
        if self._wanted.proxy != ProxyMode.NONE:
            self._write_proxy(node, host)
            config = f"--config={node_config.DIRECTORY}/kube-proxy.json"
            _start(node, self._program(KUBE_PROXY), [config]).close()

    def start(self, nodes: Sequence[RemoteNode], serve: Callable[[], None]) -> None:
        """All nodes of a lab that comes up, while ``serve`` brings up the API server. Raises LabError."""
        with ThreadPoolExecutor(max_workers=max(1, len(nodes)), thread_name_prefix="boot") as pool:
            booted = [pool.submit(self.boot, node) for node in nodes]
            serve()
            for each in booted:
                each.result()
            for joined in [pool.submit(self.join, node) for node in nodes]:
                joined.result()

    def _program(self, name: str) -> str:
        return str(Path(self._spec.kube_bin) / name)

    def _write_kubelet(self, node: RemoteNode, host: Host) -> None:
        unified = any(h.unified and str(h.mount) == cgroups.ROOT for h in cgroups.hierarchies())
        config = node_config.kubelet(
            host, unified_cgroups=unified, stack=self._wanted.ip_stack, max_pods=self._wanted.max_pods
        )
        user = User(f"system:node:{node.name}", "system:nodes")
        node.write(f"{node_config.DIRECTORY}/kubelet.json", json.dumps(config, indent=2))
        node.write(node_config.KUBELET_KUBECONFIG, self._server.kubeconfig(user), mode=0o600)
        node.write(node_config.AUTHORITY, self._server.authority())
        # Pods with dnsPolicy Default get this; an empty one would make their libraries ask 127.0.0.1 as well.
        node.write(node_config.RESOLV_CONF, "nameserver 127.0.0.1\n")

    def _write_proxy(self, node: RemoteNode, host: Host) -> None:
        config = node_config.proxy(host, self._wanted.proxy, families.pod_ranges(self._spec))
        node.write(f"{node_config.DIRECTORY}/kube-proxy.json", json.dumps(config, indent=2))
        kubeconfig = self._server.kubeconfig(User("system:kube-proxy"))
        node.write(node_config.PROXY_KUBECONFIG, kubeconfig, mode=0o600)


def _forward(node: RemoteNode) -> None:
    """What kubeadm wants of a node before it lets one join."""
    fd = node.netns_fd()
    try:
        with namespace.entered(fd):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    finally:
        os.close(fd)


def link_plugins(node: RemoteNode, names: Sequence[str]) -> None:
    """Some of the machine's plugins into the node's /opt/cni/bin. Raises LabError."""
    for name in names:
        if not (PLUGINS / name).exists():
            raise LabError(
                f"no {PLUGINS / name} on this machine; install the package containernetworking-plugins"
            )
        link = node.directory.outside(f"/opt/cni/bin/{name}")
        if not link.is_symlink():
            link.symlink_to(PLUGINS / name)


def _start(node: RemoteNode, program: str, arguments: Sequence[str], *, again: bool = True) -> NodeProcess:
    """Detached, with its output appended to its log; its label is its name.

    With ``again`` the node starts it anew whenever it ends, and says so in that log.
    """
    name = Path(program).name
    path = node.directory.outside(log_of(name))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    pause = _PAUSE if again else None
    try:
        return node.spawn(
            [program, *arguments],
            (null, log, log),
            label=name,
            detached=True,
            group=cgroups.SYSTEM,
            again=pause,
        )
    finally:
        messages.close([log, null])


def _start_containerd(node: RemoteNode, *, again: bool = True) -> None:
    """It serves when this returns."""
    arguments = ["--config", f"{node_config.DIRECTORY}/containerd.toml"]
    process = _start(node, CONTAINERD, arguments, again=again)
    try:
        _await_socket(node, process)
    finally:
        process.close()


def _stop(node: RemoteNode, program: str) -> None:
    _, (pidfd,) = node.ask({"verb": "open_process", "label": program})
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not ended(pidfd, _DEADLINE):
            raise LabError(f"node {node.name}: {program} does not end")
    finally:
        os.close(pidfd)


def _await_socket(node: RemoteNode, process: NodeProcess) -> None:
    path = Path(f"/proc/{node.pid}/root{node_config.CONTAINERD_SOCKET}")
    deadline = time.monotonic() + _DEADLINE
    while not _accepts(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"node {node.name}: {CONTAINERD} does not serve: {tail(node, CONTAINERD)}")
        ended(process.fileno(), _POLL)


def _accepts(path: Path) -> bool:
    try:
        messages.connect(path, timeout=1.0).close()
    except OSError:
        return False
    return True


def tail(node: RemoteNode, program: str) -> str:
    """The last lines that a node's program wrote, as one."""
    try:
        lines = node.read(log_of(program)).strip().splitlines()
    except OSError as exc:
        return f"no log: {exc.strerror}"
    return " | ".join(lines[-3:]) or "its log is empty"
