"""The pod's end of a pair: written in one batch from a socket that was opened in the pod's namespace."""

from __future__ import annotations

import time

from datapath import namespace, sysctl
from datapath.endpoint import Endpoint
from datapath.errors import KernelError
from datapath.netlink import address, link, neighbour, route
from datapath.netlink.address import SCOPE_LINK
from datapath.netlink.link import Link
from datapath.netlink.socket import Socket
from datapath.plan import Plan

LOOPBACK = 1
"""The loopback is the first link of every namespace."""

CARRIER_DEADLINE = 2.0
"""Seconds. Kernels before 6.8 tell of a carrier by a work item that may be a second late."""


def find(netns: int, ifname: str) -> Link | None:
    """The link of that name in the namespace."""
    with Socket(netns) as socket:
        return link.find(socket, ifname)


def write(socket: Socket, pod: int, wanted: Plan) -> None:
    """Link and loopback up, then all objects. Each replaces its like, so that twice is once."""
    socket.transact(
        link.change(LOOPBACK, up=True),
        link.change(pod, up=True),
        *map(address.add, wanted.pod_addresses),
        *map(neighbour.add, wanted.pod_neighbours),
        *map(route.add, wanted.pod_routes),
    )


def enter(netns: int, endpoint: Endpoint) -> Socket:
    """A socket in the pod's namespace, the sysctls written on the way. Before the link is up."""
    with namespace.entered(netns):
        if endpoint.ipv6 is not None:
            _silence_ipv6(endpoint.ifname)
        return Socket()


def drop_other_addresses(socket: Socket, pod: int, wanted: Plan) -> None:
    """Keep no address of an earlier try. Those of scope link are the kernel's own."""
    present = [one for one in address.of_link(socket, pod) if one.scope != SCOPE_LINK]
    socket.transact(*(address.delete(one) for one in present if one not in wanted.pod_addresses))


def await_carrier(socket: Socket, pod: int, name: str) -> None:
    """Return when the link sends: before, the kernel drops without a word what the pod says first.

    From Linux 6.8 on the look-up itself settles it, so that the first answer is good.
    Raises KernelError when ``CARRIER_DEADLINE`` is over.
    """
    deadline = time.monotonic() + CARRIER_DEADLINE
    pause = 0.0005
    while True:
        found = link.find(socket, pod)
        if found is not None and found.running:
            return
        if time.monotonic() > deadline:
            state = "gone" if found is None else "without carrier"
            raise KernelError("bring up the pod's link", object=f"{name} (number {pod})", detail=state)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _silence_ipv6(ifname: str) -> None:
    """No router solicitation, no duplicate detection: the address is the cloud's to give, and now."""
    where = f"net/ipv6/conf/{ifname}"
    sysctl.ensure({f"{where}/disable_ipv6": "0"})
    sysctl.write(f"{where}/accept_ra", "0")
    sysctl.write(f"{where}/accept_dad", "0")
