"""Pods of the lab: what kubelet and containerd do around a CNI call, step by step, so that a test may stop.

RunPodSandbox: network namespace, ADD. StopPodSandbox: DEL with namespace and result, namespace removed.
RemovePodSandbox: a second DEL with an empty CNI_NETNS and no result. The lab keeps a record of each pod, so
that another client (a later ``./run lab pod del``) can end what this one began.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from lab import cni_call
from lab.cni_call import Attachment, CniError, Json, Network
from lab.connection import Connection
from lab.kube_client import KubeError
from lab.messages import LabError
from lab.nodes.node import LabNode
from lab.nodes.process import NodeProcess, Scratch

Address = IPv4Address | IPv6Address
NETNS_DIR = "/var/run/netns"


@dataclass(frozen=True, slots=True)
class PodRecord:
    """All that is needed to end a pod later. ``result`` is the ADD's, None while there is none."""

    node: str
    namespace: str
    name: str
    uid: str
    container_id: str
    sandbox: str
    network: Json
    result: Json | None = None
    add_seconds: float = 0.0
    runtime_config: Json = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PodOptions:
    """The pod object's metadata, and what its runtime passes to plugins that declare the capability."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Json = field(default_factory=dict)
    """{"apiVersion", "kind", "name", "uid"} of the controller, {} for a bare pod."""
    runtime_config: Json = field(default_factory=dict)


BARE = PodOptions()


class LabPod:
    """One sandbox of one pod. ``recreate`` gives another one of the pod; this one then is the old one."""

    def __init__(self, runtime: SandboxRuntime, node: LabNode, record: PodRecord) -> None:
        self._runtime = runtime
        self._node = node
        self.record = record

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def node(self) -> LabNode:
        return self._node

    @property
    def uid(self) -> str:
        return self.record.uid

    @property
    def container_id(self) -> str:
        return self.record.container_id

    @property
    def result(self) -> Json:
        return self.record.result or {}

    @property
    def add_seconds(self) -> float:
        """Duration of the ADD including exec, by process 1 of the node."""
        return self.record.add_seconds

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those of the ADD's result, in its order."""
        return tuple(ip_interface(item["address"]).ip for item in self.result.get("ips", ()))

    @property
    def ipv4(self) -> IPv4Address:
        return next(a for a in self.addresses if isinstance(a, IPv4Address))

    @property
    def ipv6(self) -> IPv6Address | None:
        return next((a for a in self.addresses if isinstance(a, IPv6Address)), None)

    def netns_fd(self) -> int:
        """An open file of the pod's network namespace; the caller's. Raises LabError if it is gone."""
        return self._node.sandbox_fd(self.record.sandbox)

    def attachment(self, *, netns: bool = True) -> Attachment:
        record = self.record
        path = f"{NETNS_DIR}/{record.sandbox}" if netns else ""
        return Attachment(
            record.container_id,
            path,
            record.namespace,
            record.name,
            record.uid,
            runtime_config=record.runtime_config,
        )

    @property
    def network(self) -> Network:
        return cni_call.parse_network(self.record.network)

    # --- processes ---

    def spawn(self, argv: Sequence[str], files: Sequence[int], **options: Any) -> NodeProcess:
        return self._node.spawn(argv, files, sandbox=self.record.sandbox, **options)

    def exec(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` in the pod's network namespace and the node's others (/sys is the node's too)."""
        with Scratch(stdin) as source, Scratch() as out, Scratch() as err:
            with self.spawn(argv, (source.fd, out.fd, err.fd)) as process:
                code = process.wait(timeout)
            return subprocess.CompletedProcess(
                list(argv), code, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )

    # --- the runtime's steps ---

    def check(self) -> None:
        """CNI CHECK. Raises CniError."""
        cni_call.check(self._node, self.network, self.attachment(), self.result)

    def stop(self, *, netns: bool = True, remove_netns: bool = True) -> float:
        """StopPodSandbox; the DEL's seconds. ``netns`` False: the namespace is gone and CNI_NETNS empty."""
        seconds = cni_call.delete(self._node, self.network, self.attachment(netns=netns), self.record.result)
        if remove_netns:
            self.remove_netns()
        return seconds

    def remove_netns(self) -> bool:
        return self._node.remove_sandbox(self.record.sandbox)

    def remove(self) -> float:
        """RemovePodSandbox: a DEL with nothing known but the names."""
        return cni_call.delete(self._node, self.network, self.attachment(netns=False), None)

    def delete_object(self) -> bool:
        return self._runtime.delete_object(self.record)

    def recreate(self) -> LabPod:
        """A new sandbox of the same pod: new container id, new namespace, ADD. Raises CniError."""
        return self._runtime.run_sandbox(self._node, replace(self.record, result=None, add_seconds=0.0))


class SandboxRuntime:
    def __init__(self, lab: Connection) -> None:
        self._lab = lab

    def add_pod(
        self,
        node: LabNode,
        namespace: str,
        name: str,
        options: PodOptions = BARE,
        *,
        create_object: bool = True,
    ) -> LabPod:
        """A pod object and its sandbox. If the ADD fails, what containerd undoes is undone, the object stays.

        Raises CniError, or LabError for what is not the plugin's.
        """
        pod_uid = str(uuid.uuid4())
        if create_object:
            created = self._lab.kubernetes.create_pod(_pod_object(node.name, namespace, name, options))
            pod_uid = str(created["metadata"]["uid"])
        record = PodRecord(
            node.name,
            namespace,
            name,
            pod_uid,
            container_id="",
            sandbox="",
            network={},
            runtime_config=dict(options.runtime_config),
        )
        return self.run_sandbox(node, record)

    def run_sandbox(self, node: LabNode, record: PodRecord) -> LabPod:
        """RunPodSandbox for the pod of ``record``. Raises CniError."""
        network = cni_call.network_of(node)
        record = replace(
            record,
            container_id=secrets.token_hex(32),
            sandbox=f"cni-{uuid.uuid4()}",
            network={"name": network.name, "cniVersion": network.version, "plugins": list(network.plugins)},
        )
        netns = node.add_sandbox(record.sandbox)
        try:
            pod = LabPod(self, node, record)
            try:
                result, seconds = cni_call.add(node, network, pod.attachment())
            except CniError:
                with contextlib.suppress(CniError):
                    cni_call.delete(node, network, pod.attachment(), None)
                pod.remove_netns()
                raise
            if self._lab.spec.wire:
                self._lab.call_with_files("wire_pod", [netns], node=node.name)
        finally:
            os.close(netns)
        pod.record = replace(record, result=result, add_seconds=seconds)
        self._report(pod)
        self._lab.call("put_pod", key=pod.key, record=asdict(pod.record))
        return pod

    def _report(self, pod: LabPod) -> None:
        """As kubelet does once the sandbox is there; of a pod without an object there is nothing to tell.

        Other plugins than terway may have given it no address.
        """
        addresses = [str(a) for a in pod.addresses]
        told = {"podIP": addresses[0], "podIPs": [{"ip": a} for a in addresses]} if addresses else {}
        status = {"phase": "Running", **told}
        with contextlib.suppress(KubeError):
            self._lab.kubernetes.report_pod(pod.record.namespace, pod.record.name, status)

    def delete_pod(self, pod: LabPod, *, delete_object: bool = True) -> float:
        """All steps of a pod's end; seconds of the first DEL. Steps that are done already do no harm."""
        seconds = pod.stop()
        pod.remove()
        self._lab.call("drop_pod", key=pod.key)
        if delete_object:
            pod.delete_object()
        return seconds

    def delete_object(self, record: PodRecord) -> bool:
        return self._lab.kubernetes.delete_pod(record.namespace, record.name)

    def pods(self) -> tuple[LabPod, ...]:
        records: dict[str, Json] = self._lab.call("pods")
        return tuple(self._pod(record) for _, record in sorted(records.items()))

    def pod(self, key: str) -> LabPod:
        records: dict[str, Json] = self._lab.call("pods")
        if key not in records:
            raise LabError(f"no pod {key!r}; there are {', '.join(sorted(records)) or 'none'}")
        return self._pod(records[key])

    def _pod(self, record: Json) -> LabPod:
        known = PodRecord(**record)
        return LabPod(self, LabNode(self._lab, known.node), known)


def _pod_object(node: str, namespace: str, name: str, options: PodOptions) -> Json:
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "annotations": dict(options.annotations),
        "labels": dict(options.labels),
    }
    if options.owner:
        metadata["ownerReferences"] = [{"controller": True, **options.owner}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "localhost/none"}],
        },
    }
