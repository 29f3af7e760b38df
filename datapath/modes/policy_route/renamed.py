"""Host links by another name than ours, for an ADD or a DEL that comes before the repair has renamed them.

A name says nothing for sure: somebody may have changed it, and given it to another device. Whose a link is
its MAC and its alias say (``observed.owns``): candidates are found by what leads to them, and asked for both.
"""

from __future__ import annotations

from collections.abc import Iterable

from datapath.endpoint import Endpoint
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.observed import paired
from datapath.netlink import link
from datapath.netlink.link import Link
from datapath.netlink.socket import Socket
from datapath.pod import inside as pod_side


def of_endpoint(socket: Socket, endpoint: Endpoint, indices: Iterable[int]) -> Link | None:
    """The endpoint's own link among those with these numbers."""
    found = (link.find(socket, index) for index in dict.fromkeys(indices) if index)
    return next((one for one in found if one is not None and seen.owns(endpoint, one)), None)


def in_the_way(
    socket: Socket, endpoint: Endpoint, netns: int, others: Iterable[tuple[int, Endpoint]]
) -> Link | None:
    """The link that should have the endpoint's name: the sandbox's own, or an earlier one's of the same pod.

    ``others``: endpoints by the number of their host link. None where the name is not missing.
    """
    if link.find(socket, endpoint.host_link) is not None:
        return None
    inside = pod_side.find(netns, endpoint.ifname)
    if inside is not None:
        host = of_endpoint(socket, endpoint, [inside.lower])
        if host is not None and paired(host, inside):
            return host
    for index, other in others:
        if other.host_link == endpoint.host_link:
            found = of_endpoint(socket, other, [index])
            if found is not None:
                return found
    return None
