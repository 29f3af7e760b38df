"""Pods of a cluster as the load knows them, which are to stay the same containers in the same sandboxes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.messages import LabError
from lab.nodes.node import LabNode
from tests.e2e import cluster_site, evidence
from tests.e2e.load import Load, Sent, Way


@dataclass(frozen=True, slots=True)
class ClusterPod:
    """A pod of the Deployment. ``containers``: id and number of restarts of each."""

    key: str
    uid: str
    node: LabNode
    ipv4: IPv4Address
    sandbox: str
    """Its network namespace, by the name it has in the node's /run/netns: each sandbox has another."""
    containers: tuple[tuple[str, int], ...]

    @property
    def ipv6(self) -> IPv6Address | None:
        return None

    def netns_fd(self) -> int:
        return self.node.sandbox_fd(self.sandbox)

    @property
    def identity(self) -> tuple[object, ...]:
        """Changes with another pod of that name, another sandbox of the pod, or a restart."""
        return self.key, self.uid, str(self.ipv4), self.sandbox, self.containers


def pods(lab: Lab) -> tuple[ClusterPod, ...]:
    """Those of the Deployment, by node and name."""
    nodes = {node.name: node for node in lab.nodes}
    sandboxes = {node.name: by_address(node) for node in lab.nodes}
    found = [_pod(item, nodes[item["spec"]["nodeName"]], sandboxes) for item in cluster_site.pods(lab)]
    return tuple(sorted(found, key=lambda pod: (pod.node.name, pod.key)))


def _pod(item: dict[str, Any], node: LabNode, sandboxes: dict[str, dict[str, str]]) -> ClusterPod:
    metadata, status = item["metadata"], item["status"]
    return ClusterPod(
        f"{metadata['namespace']}/{metadata['name']}",
        metadata["uid"],
        node,
        IPv4Address(status["podIP"]),
        sandboxes[node.name][status["podIP"]],
        tuple((one["containerID"], one["restartCount"]) for one in status["containerStatuses"]),
    )


def by_address(node: LabNode) -> dict[str, str]:
    """Network namespaces that containerd has made on ``node``, by the address in each; "" if it has none.

    The kernel is asked, so that an agent cannot answer for it.
    """
    found = {}
    for name in node.exec(["ls", "/run/netns"], check=True).stdout.split():
        try:
            fd = node.sandbox_fd(name)
        except LabError:
            continue  # removed meanwhile
        try:
            with namespace.entered(fd), IPRoute() as netlink:
                links = netlink.get_addr(family=socket.AF_INET, label="eth0")
                found[next((str(a.get_attr("IFA_ADDRESS")) for a in links), "")] = name
        finally:
            os.close(fd)
    return found


@dataclass(frozen=True, slots=True)
class Traffic:
    """Between four pods of a Deployment, two on each of two nodes, without end."""

    lab: Lab
    pods: tuple[ClusterPod, ...]
    load: Load

    @contextmanager
    def unharmed(self, what: str, *, by_stack: bool = False) -> Iterator[Sent]:
        """No datagram is lost, doubled or off the fast path, no stream breaks, no pod becomes another.

        ``by_stack``: the fast path is switched off meanwhile, and packets may take the stack.
        """
        nodes = self.lab.nodes
        counted = partial(evidence.counted, self.lab, nodes, self.pods)
        way = nullcontext() if by_stack else evidence.by_ebpf_alone(*nodes)
        with self.load.unharmed(counted) as sent, way:
            yield sent
        then, now = ({pod.identity for pod in some} for some in (self.pods, pods(self.lab)))
        assert then == now, f"{then - now} became {now - then}"
        print(f"{what}: {sent.datagrams} datagrams in {sent.seconds:.1f} s, all came")


@contextmanager
def flowing(lab: Lab, tool: Path) -> Iterator[Traffic]:
    """Datagrams on each node and both ways between them; bulk on one and between both."""
    found = pods(lab)
    assert [pod.node.name for pod in found] == ["node1", "node1", "node2", "node2"]
    a, b, c, d = found
    flows = [Way(a, b, 4), Way(c, d, 4), Way(b, c, 4), Way(d, a, 4)]
    streams = [Way(a, c, 4), Way(d, b, 4), Way(b, a, 4)]
    with Load(tool, flows=flows, streams=streams) as load:
        yield Traffic(lab, found, load)
