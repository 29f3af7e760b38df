"""What leads to a host link before an ADD touches it, and how all of it is put back.

An ADD may find a link in its way: the same sandbox's, when a runtime repeats itself, or one of an earlier
sandbox of the same pod. Either may be what a running pod lives by. So the link is moved aside at most, and
taken out of use only when the new one is proven; on any failure it stands again as it stood.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from datapath import objects
from datapath.errors import KernelError
from datapath.modes.policy_route import observed as seen
from datapath.netlink import address, link
from datapath.netlink.link import Link
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address
from datapath.objects import Object
from datapath.pod import names


@dataclass(frozen=True, slots=True)
class Standing:
    """``addresses`` are the pod's, ``objects`` the host's side of it in the order of writing."""

    host: Link
    addresses: tuple[Address, ...]
    objects: tuple[Object, ...]


def look(socket: Socket, host: Link) -> Standing:
    found = seen.observe(socket)
    addresses = found.addresses_of(host.index)
    return Standing(
        host,
        addresses,
        (
            *address.of_link(socket, host.index),
            *(one for one in (*found.routes, *found.upstream_routes) if one.oif == host.index),
            *(one for one in found.neighbours if one.index == host.index),
            *(one for one in found.rules if seen.address_of(one) in addresses),
        ),
    )


def move_aside(socket: Socket, standing: Standing) -> None:
    """Make its name free. It carries packets meanwhile, except before Linux 6.2, where it goes down."""
    rename(socket, standing.host.index, names.aside_name(standing.host.index))


def put_back(socket: Socket, standing: Standing) -> None:
    """As it stood. Objects that are still there are written over with themselves."""
    host = standing.host
    present = link.find(socket, host.index)
    if present is not None and present.name != host.name:
        rename(socket, host.index, host.name)
    socket.transact(
        link.change(host.index, up=host.up, alias=host.alias),
        *(objects.add(one) for one in standing.objects if host.up or isinstance(one, Rule)),
    )


def rename(socket: Socket, index: int, name: str) -> None:
    """Before Linux 6.2 a link has to be down for it."""
    try:
        socket.one(link.rename(index, name))
    except KernelError as exc:
        if exc.errno != errno.EBUSY:
            raise
        socket.transact(link.change(index, up=False), link.rename(index, name))
