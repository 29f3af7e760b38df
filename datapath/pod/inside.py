"""The pod's end of a pair: written in one batch from a socket that was opened in the pod's namespace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from datapath import namespace, sysctl
from datapath.endpoint import Endpoint
from datapath.errors import KernelError
from datapath.modes.policy_route.plan import LOOPBACK, Plan
from datapath.netlink import address, link, neighbour, route
from datapath.netlink.address import SCOPE_LINK, Assigned
from datapath.netlink.link import Link
from datapath.netlink.route import Path
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message

READY_DEADLINE = 5.0
"""Seconds. The work items that are waited for may be a second late, and more on a busy machine."""


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


def addresses(socket: Socket, pod: int) -> list[Assigned]:
    """Those that somebody gave it: of scope link are the kernel's own."""
    return [one for one in address.of_link(socket, pod) if one.scope != SCOPE_LINK]


def drop_addresses(socket: Socket, dropped: Iterable[Assigned]) -> None:
    socket.transact(*map(address.delete, dropped))


def drop_other_addresses(socket: Socket, pod: int, wanted: Plan) -> None:
    """Keep no address of an earlier try."""
    drop_addresses(socket, (o for o in addresses(socket, pod) if o not in wanted.pod_addresses))


def await_ready(socket: Socket, wanted: Plan) -> None:
    """Return when the pod can send and receive: before, the kernel drops its first packets without a word.

    The carrier is told by a work item, though since Linux 6.8 the look-up itself settles it. And IPv6, even
    without duplicate detection, routes to a new address only when another work item has run.
    Raises KernelError when ``READY_DEADLINE`` is over.
    """
    first = wanted.pod_addresses[0]
    questions = [link.get(first.index), *(route.lookup(Path(one.address)) for one in wanted.pod_addresses)]
    deadline = time.monotonic() + READY_DEADLINE
    pause = 0.0002
    while (lacking := _lacking(socket.transact(*questions), wanted)) != "":
        if time.monotonic() > deadline:
            raise KernelError("wait for the pod's link", object=f"{first.device} in the pod", detail=lacking)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _lacking(answers: Sequence[Message | None], wanted: Plan) -> str:
    """What is not as it must be yet; "" if all is."""
    if answers[0] is None:
        return "the link is gone"
    if not link.decode(answers[0]).running:
        return "no carrier"
    for assigned, answer in zip(wanted.pod_addresses, answers[1:], strict=True):
        if not route.is_local(answer):
            return f"{assigned.address} is not routed to the pod itself"
    return ""


def _silence_ipv6(ifname: str) -> None:
    """No router solicitation, no duplicate detection: the address is the cloud's to give, and now."""
    where = f"net/ipv6/conf/{ifname}"
    sysctl.ensure({f"{where}/disable_ipv6": "0"})
    sysctl.write(f"{where}/accept_ra", "0")
    sysctl.write(f"{where}/accept_dad", "0")
