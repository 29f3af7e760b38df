"""In place of the product, to compare with: ``ptp`` and ``host-local`` of containernetworking-plugins.

The least that makes a node Ready: a veth pair per pod and an address of the node's own range, from a file of
the node. The VPC knows nothing of these addresses, so pods reach their node, each other on it, and no more.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

from lab.apiserver.port import Say
from lab.client import Lab
from lab.kubernetes.readiness import await_nodes
from lab.kubernetes.runtime import link_plugins

PLUGINS = ("ptp", "host-local")
CONFIG = "/etc/cni/net.d/10-stand-in.conflist"
_RANGES = IPv4Network("10.244.0.0/16")
"""A /24 of it for each node: 253 pods."""


def install(lab: Lab, say: Say) -> None:
    """In every node; all are Ready then. Raises LabError."""
    say("installing ptp on each node")
    for node, pods in zip(lab.nodes, _RANGES.subnets(new_prefix=24), strict=False):
        link_plugins(node, PLUGINS)
        node.write(CONFIG, json.dumps(chain(pods), indent=2))
    await_nodes(lab, say)


def chain(pods: IPv4Network) -> dict[str, Any]:
    """A node's network configuration list, whose pods have addresses of ``pods``."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": str(pods)}]], "routes": [{"dst": "0.0.0.0/0"}]}
    ptp = {"type": "ptp", "mtu": 1500, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "stand-in", "plugins": [ptp]}
