"""Pod links of a ``--wire`` lab: checksum and segmentation offloads off, as on the fabric's links."""

from __future__ import annotations

from pyroute2 import IPRoute

from datapath import namespace
from lab.fabric.offload import disable_offloads


def make_wire_like(pod: int, node: int, ifname: str = "eth0") -> None:
    """Both ends of the pod's ``ifname``, or one if the other is not in ``node``; nothing if it has none."""
    with namespace.entered(pod), IPRoute() as route:
        found = route.link_lookup(ifname=ifname)
        if not found:
            return
        disable_offloads(ifname)
        peer = route.get_links(found[0])[0].get_attr("IFLA_LINK")
    if peer is None:
        return
    with namespace.entered(node), IPRoute() as route:
        for link in route.get_links(peer):
            disable_offloads(link.get_attr("IFLA_IFNAME"))
