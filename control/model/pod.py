"""Pods as the agent sees them, and the port to Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from control.model.ids import Address, PodKey

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Pod:
    key: PodKey
    uid: str
    node: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    host_network: bool = False
    owner_kind: str = ""
    """Kind of the controlling owner in lower case, "" if none."""
    addresses: tuple[Address, ...] = ()
    """``status.podIPs``: what its kubelet says it has or had. It lags, and a finished pod keeps it."""
    sandbox_exited: bool = False
    """Phase Succeeded or Failed: the pod object is still there, its sandbox need not be."""


FAST_PATH = "k8s.aliyun.com/fast-path"
"""Annotation: "off" has the node's own stack carry all packets of the pod, "on" is as if it were absent."""


def may_be_fast(pod: Pod) -> bool:
    """What the annotation says; a word that it does not know counts as absent."""
    return pod.annotations.get(FAST_PATH, "on") != "off"


Unsubscribe = Callable[[], None]
"""Ends a subscription. No call begins after it has returned; one that is under way may still end."""


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


class Kubernetes(Protocol):
    """What the agent asks of the API server. ``event`` and ``annotate`` never block and never fail."""

    async def pod(self, key: PodKey, uid: str | None) -> Pod:
        """From the watch cache; a GET if the cache lacks it or has another uid. ``uid`` None takes any.

        Raises PodNotFound, or KubernetesError if the cache cannot answer and the server does not.
        """
        ...

    async def exists(self, key: PodKey, uid: str) -> bool:
        """A GET past the cache: the witness that may free an address. Raises KubernetesError."""
        ...

    async def cluster_id(self) -> str:
        """The uid of the cluster's Service default/kubernetes, "" if it has none. Raises KubernetesError."""
        ...

    def synced(self) -> bool:
        """The first list has been read."""
        ...

    def pods(self) -> Mapping[PodKey, Pod]:
        """The cache's current pods of this node. Empty before ``synced``."""
        ...

    def on_pods(self, call: Callable[[], None]) -> Unsubscribe:
        """Have ``call`` called, from a thread of its own, after changes of ``pods``.

        Of several changes it may hear at once; after the last one it is called. If there is something to be
        seen already it is called soon. It may be slow or raise, to the harm of nobody else who subscribes.
        """
        ...

    def service_addresses(self) -> frozenset[Address] | None:
        """Addresses that kube-proxy translates, but for ClusterIPs within ``service_cidrs``.

        External IPs of Services, addresses of their load balancers, and ClusterIPs of no known range. None
        before the first list, and as long as nobody has called ``on_services``.
        """
        ...

    def service_cidrs(self) -> tuple[Network, ...] | None:
        """ClusterIP ranges: the configured ones, else the cluster's. None: not known, or not yet."""
        ...

    def on_services(self, call: Callable[[], None]) -> Unsubscribe:
        """Watch Services from now on, and have ``call`` called after changes, as ``on_pods`` does."""
        ...

    def event(
        self, target: Pod | None, kind: EventType, reason: str, message: str, *, topic: str = ""
    ) -> None:
        """An event on ``target``, or on the node if None.

        Those of one ``topic`` are one event, which counts up and says the latest message; without a topic
        those of one message are.
        """
        ...

    def annotate(self, pod: Pod, annotations: Mapping[str, str]) -> None: ...

    async def close(self) -> None: ...
