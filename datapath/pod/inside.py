"""What every mode does inside a pod: written in one batch from a socket opened in the pod's namespace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datapath import namespace, objects, sysctl
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint
from datapath.errors import KernelError
from datapath.netlink import address, link, neighbour, route
from datapath.netlink.address import SCOPE_LINK, Assigned
from datapath.netlink.link import LOOPBACK, Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Path, Route
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message, family_of
from datapath.objects import Object

READY_DEADLINE = 5.0
"""Seconds. The work items that are waited for may be a second late, and more on a busy machine."""


@dataclass(frozen=True, slots=True)
class PodObjects:
    """What a pod is to have, in the order of writing."""

    addresses: tuple[Assigned, ...]
    neighbours: tuple[Neighbour, ...]
    routes: tuple[Route, ...]


def find(netns: int, ifname: str) -> Link | None:
    """The link of that name in the namespace."""
    with Socket(netns) as socket:
        return link.find(socket, ifname)


def write(socket: Socket, pod: int, wanted: PodObjects) -> None:
    """Link and loopback up, then all objects. Each replaces its like, so that twice is once."""
    socket.transact(
        link.change(LOOPBACK, up=True),
        link.change(pod, up=True),
        *map(address.add, wanted.addresses),
        *map(neighbour.add, wanted.neighbours),
        *map(route.add, wanted.routes),
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


def drop_other_addresses(socket: Socket, pod: int, wanted: PodObjects) -> None:
    """Keep no address of an earlier try."""
    drop_addresses(socket, (o for o in addresses(socket, pod) if o not in wanted.addresses))


def differences(socket: Socket, index: int, wanted: PodObjects) -> tuple[Difference, ...]:
    """Of ``wanted`` what link ``index`` of the pod lacks. What is there beside is the pod's own."""
    present: list[Object] = [*address.of_link(socket, index), *neighbour.list_permanent(socket, index)]
    for family in sorted({family_of(one.address) for one in wanted.addresses}):
        present.extend(route.list_table(socket, family, MAIN))
    return objects.differences((*wanted.addresses, *wanted.neighbours, *wanted.routes), present)


def link_differences(found: Link, mtu: int) -> list[Difference]:
    """Of an end of a pod's connection, in the pod or on the host."""
    differences = []
    if not found.up:
        differences.append(Difference(ObjectKind.LINK, f"link {found.name}", "down"))
    if found.mtu != mtu:
        differences.append(Difference(ObjectKind.LINK, f"link {found.name} mtu {mtu}", f"mtu {found.mtu}"))
    return differences


def await_ready(socket: Socket, wanted: PodObjects) -> None:
    """Return when the pod can send and receive: before, the kernel drops its first packets without a word.

    The carrier is told by a work item, though since Linux 6.8 the look-up itself settles it. And IPv6, even
    without duplicate detection, routes to a new address only when another work item has run.
    Raises KernelError when ``READY_DEADLINE`` is over.
    """
    first = wanted.addresses[0]
    questions = [link.get(first.index), *(route.lookup(Path(one.address)) for one in wanted.addresses)]
    deadline = time.monotonic() + READY_DEADLINE
    pause = 0.0002
    while (lacking := _lacking(socket.transact(*questions), wanted)) != "":
        if time.monotonic() > deadline:
            raise KernelError("wait for the pod's link", object=f"{first.device} in the pod", detail=lacking)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _lacking(answers: Sequence[Message | None], wanted: PodObjects) -> str:
    """What is not as it must be yet; "" if all is."""
    if answers[0] is None:
        return "the link is gone"
    if not link.decode(answers[0]).running:
        return "no carrier"
    for assigned, answer in zip(wanted.addresses, answers[1:], strict=True):
        if not route.is_local(answer):
            return f"{assigned.address} is not routed to the pod itself"
    return ""


def _silence_ipv6(ifname: str) -> None:
    """No router solicitation, no duplicate detection: the address is the cloud's to give, and now."""
    where = f"net/ipv6/conf/{ifname}"
    sysctl.ensure({f"{where}/disable_ipv6": "0"})
    sysctl.write(f"{where}/accept_ra", "0")
    sysctl.write(f"{where}/accept_dad", "0")
