"""The slave of an ENI: made in a pod's namespace, found there, and whether an ENI has one at all."""

from __future__ import annotations

import errno

from datapath.errors import KernelError
from datapath.netlink import link
from datapath.netlink.link import Link, MacvlanMode
from datapath.netlink.socket import Socket
from datapath.pod.names import DOOMED_PREFIX, GROUP_DOOMED
from datapath.pod.reaper import Reaper

KIND = "macvlan"
_TRIES = 2
"""A probe of a moment ago may be in the way, until the reaper has deleted it."""


def find(netns: int, eni: int) -> Link | None:
    """The slave of the ENI with link index ``eni``, whatever it is called by now."""
    with Socket(netns) as socket:
        return find_in(socket, eni)


def find_in(socket: Socket, eni: int) -> Link | None:
    """``socket`` is of the pod's namespace."""
    slaves = (one for one in link.list_all(socket) if one.kind == KIND and one.lower_elsewhere)
    return next((one for one in slaves if one.lower == eni), None)


def create(socket: Socket, reaper: Reaper, name: str, eni: Link, *, netns: int, mtu: int) -> None:
    """Born in ``netns``, down. KernelError with EEXIST: the name is in use; EINVAL: the ENI has a slave."""
    request = link.create_macvlan(name, eni.index, MacvlanMode.PASSTHRU, netns=netns, mtu=mtu)
    for left in reversed(range(_TRIES)):
        try:
            socket.one(request)
        except KernelError as exc:
            if exc.errno != errno.EINVAL or not left:
                raise
            reaper.flush()
        else:
            return


def occupied(socket: Socket, reaper: Reaper, eni: Link) -> bool:
    """Whether a passthru slave of the ENI is anywhere, in whatever namespace: it suffers no other beside it.

    So another is made, of a mode that takes nothing from the ENI, and left to the reaper. This asks nobody's
    namespace, and no pod can answer for the kernel.
    """
    name = f"{DOOMED_PREFIX}{KIND[0]}{eni.index:x}"
    request = link.create_macvlan(name, eni.index, MacvlanMode.PRIVATE, group=GROUP_DOOMED)
    for left in reversed(range(_TRIES)):
        try:
            socket.one(request)
        except KernelError as exc:
            if exc.errno == errno.EINVAL:
                return True
            if exc.errno != errno.EEXIST or not left:
                raise
            reaper.wake()
            reaper.flush()
        else:
            break
    reaper.wake()
    return False
