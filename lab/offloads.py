"""Pod links of a ``--wire`` lab: checksum and segmentation offloads off, as on the fabric's links."""

from __future__ import annotations

from pyroute2 import IPRoute

from datapath import namespace
from lab.fabric.offload import disable_offloads


def make_wire_like(pod: int, node: int, ifname: str = "eth0") -> None:
    """Both ends of the pod's ``ifname``, or its only end if the other is not in ``node``."""
    with namespace.entered(pod), IPRoute() as route:
        disable_offloads(ifname)
        found = route.link_lookup(ifname=ifname)
        peer = route.get_links(found[0])[0].get_attr("IFLA_LINK") if found else None
    if peer is None:
        return
    with namespace.entered(node), IPRoute() as route:
        for link in route.get_links(peer):
            disable_offloads(link.get_attr("IFLA_IFNAME"))
