"""What a node of a cluster holds for its pods, as ledger, cloud and kernel show it, each asked apart.

In words that stay the same over a reboot: addresses and names of pods, no ids of containers and no numbers of
links.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.nodes.node import LabNode
from tests.e2e.cluster_load import by_address
from tests.e2e.fastpath_rows import rows_of_pods
from tests.e2e.witnesses import cloud_enis, kernel, settled


@dataclass(frozen=True, slots=True)
class Held:
    ledger: tuple[tuple[str, str, str], ...]
    """Pod, address and state of each attachment."""
    cloud: dict[str, frozenset[str]]
    """ENI to its addresses."""
    namespaces: tuple[str, ...]
    """Addresses in what containerd keeps in /run/netns, one for each namespace."""
    links: tuple[str, ...]
    """Kinds of all links of the node."""
    routes: frozenset[str]
    rules: frozenset[str]
    rows: frozenset[str]
    """Of the fast path's endpoints."""


def held(lab: Lab, node: LabNode) -> Held:
    """Once the agent has nothing under way."""
    told, seen = settled(node), kernel(lab, node)
    return Held(
        tuple(sorted((a["pod_name"], a["ipv4"], a["state"]) for a in told["attachments"])),
        {name: frozenset(eni["addresses"]) for name, eni in cloud_enis(lab, node).items()},
        tuple(sorted(by_address(node))),
        _links(lab, node),
        seen.routes,
        seen.rules,
        frozenset(rows_of_pods(node)),
    )


def _links(lab: Lab, node: LabNode) -> tuple[str, ...]:
    """The letters of each name: a pod's link is called anew each time."""
    fd = lab.netns_fd(node.name)
    try:
        with namespace.entered(fd), IPRoute() as netlink:
            names = [str(link.get_attr("IFLA_IFNAME")) for link in netlink.get_links()]
    finally:
        os.close(fd)
    return tuple(sorted("cali" if name.startswith("cali") else name for name in names))
