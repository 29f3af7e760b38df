"""The cluster's ClusterIP ranges, for a node whose ``eni_conf`` has no ``service_cidr``.

Kubernetes 1.33 and later have ServiceCIDR objects; before, kubeadm's ConfigMap may know, as upstream reads.
Without either nothing is lost: each ClusterIP counts by itself then, from the moment the watch shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from control.kube.connection import Connection, Refused, Request
from control.model.pod import Network

log = logging.getLogger(__name__)

SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


class ServiceCidrs:
    """Asked by one thread, read by any."""

    def __init__(self, connection: Connection, configured: tuple[Network, ...], timeout: float) -> None:
        """``timeout`` of one request in seconds. If any range is configured the cluster is not asked."""
        self._connection = connection
        self._configured = configured
        self._timeout = timeout
        self._found: tuple[Network, ...] = ()
        self._said = False

    @property
    def known(self) -> tuple[Network, ...] | None:
        return self._configured or self._found or None

    def look_up(self) -> None:
        """Raises KubernetesError if the server does not answer; what it refuses counts as unknown.

        Once known they stay so: a right that was taken away takes no range with it.
        """
        if self._configured:
            return
        refusals: list[Refused] = []
        for path, read in _SOURCES:
            found = self._ask(path, read, refusals)
            if found:
                self._found = found
                return
        if not self._found and not self._said:
            self._said = True
            log.warning(
                "the cluster's ClusterIP range is not known (%s), so each Service counts by itself; "
                "set service_cidr in eni_conf, or let the agent's ClusterRole list servicecidrs",
                "; ".join(str(refusal) for refusal in refusals) or "neither source names one",
            )

    def _ask(
        self, path: str, read: Callable[[Any], tuple[Network, ...]], refusals: list[Refused]
    ) -> tuple[Network, ...]:
        try:
            return read(self._connection.call(Request("GET", path), timeout=self._timeout))
        except Refused as exc:
            if not exc.lasting:
                raise
            refusals.append(exc)
            return ()


def cidrs_of_objects(answer: Mapping[str, Any]) -> tuple[Network, ...]:
    """Of a list of ServiceCIDR objects. One that is being deleted counts: its addresses may be in use."""
    return _networks(text for item in answer.get("items") or () for text in item["spec"]["cidrs"])


def cidrs_of_kubeadm(configmap: Mapping[str, Any]) -> tuple[Network, ...]:
    """``networking.serviceSubnet`` ("v4", "v6" or "v4,v6"); () if it is absent or not readable."""
    import yaml  # type: ignore[import-untyped]  # only where kubeadm says it; comes with the Kubernetes client

    text = (configmap.get("data") or {}).get("ClusterConfiguration") or ""
    try:
        configuration = yaml.safe_load(text)
    except yaml.YAMLError:
        return ()
    networking = configuration.get("networking") if isinstance(configuration, dict) else None
    subnet = networking.get("serviceSubnet") if isinstance(networking, dict) else None
    return _networks(str(subnet or "").split(","))


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Each once, in a fixed order. What is no range is left out."""
    found: set[Network] = set()
    for text in texts:
        try:
            found.add(ip_network(text.strip(), strict=False))
        except ValueError:
            continue
    return tuple(sorted(found, key=lambda network: (network.version, str(network))))


_SOURCES: tuple[tuple[str, Callable[[Any], tuple[Network, ...]]], ...] = (
    (SERVICE_CIDRS, cidrs_of_objects),
    (KUBEADM, cidrs_of_kubeadm),
)
