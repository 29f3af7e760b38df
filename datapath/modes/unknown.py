"""What this release can do for a pod that another release has set up, in a mode that this one has not.

A node that was rolled back has such pods until they are deleted. They are made by nobody and mended by nobody
here, and can be taken down: what the node has of a pod is found by what no mode can do without, the pod's
link by its name, alias and MAC, and rules, routes and neighbours by the pod's addresses. What is in the pod's
namespace ends with that; only what borrows a link of the node is deleted there, and by the descriptor of a
DEL alone, as a path may be another pod's by now. What is left, or could not be looked at, is told.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import ClassVar

from datapath import objects
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import (
    Applied,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    Presence,
    Sighting,
    Uplink,
)
from datapath.enforcement.locks import Lock
from datapath.errors import KernelError
from datapath.modes.port import ModeContext, ModePort
from datapath.netlink import link, neighbour, route, rule
from datapath.netlink.link import Link
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, host_network
from datapath.objects import Object
from datapath.pausing import Pausing
from datapath.pod import names
from datapath.pod.reach import NamespaceReach, PathGone
from datapath.pod.reaper import doom

log = logging.getLogger(__name__)

_BORROWED = frozenset({"ipvlan", "macvlan", "macvtap", "ipvtap", "vlan"})
"""Kinds of links that are one with a link of the node's, and nobody's ENI."""


class UnknownMode(ModePort):
    """``modes``: those that there are, for the words of an error."""

    uplinks: ClassVar[frozenset[type[Uplink]]] = frozenset()
    locks: ClassVar[tuple[Lock, ...]] = ()

    def __init__(self, context: ModeContext, modes: Iterable[str]) -> None:
        self._context = context
        self._modes = tuple(modes)
        self._reach = NamespaceReach()

    def prepare_uplink(self, uplink: Uplink) -> int:
        detail = self._told("of its pods")
        raise KernelError("prepare an uplink", errno=errno.EOPNOTSUPP, object=uplink.id, detail=detail)

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """Nobody knows what to make."""
        del netns
        detail = self._told(endpoint.mode)
        raise KernelError("set up a pod", errno=errno.EOPNOTSUPP, object=str(endpoint), detail=detail)

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """Nobody knows what it should have; that is told."""
        del netns
        return (Difference(ObjectKind.MODE, f"mode of {endpoint}", self._told(endpoint.mode)),)

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        self.take_down(endpoint.id, netns)

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        """See above. The addresses are those that were told; they lead nowhere by this node afterwards.

        Succeeds with what is left told in the log: a runtime would ask for ever.
        """
        left = self._left_in_the_pod(who, netns)
        with self._context.sockets.borrowed() as socket:
            links = _links(socket, who)
            hosts = [one for one in links if one.name.startswith(names.HOST_LINK_PREFIX)]
            left += [f"link {one.name} of the node" for one in links if one not in hosts]
            for host in hosts:
                self._context.shortcut.pod_leaves(host.index)
                socket.transact(*doom(host))
            self._context.shortcut.addresses_free(who.addresses)
            socket.transact(*map(objects.delete, _about(socket, who.addresses)))
        if hosts:
            self._context.reaper.wake()
        log.warning(
            "%s is taken down by what its links and addresses tell (%s)%s",
            who.key,
            self._told(who.mode),
            f"; left as they are: {', '.join(left)}" if left else "",
        )
        return who.addresses

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """THERE by its link, GONE if there is neither a link nor the namespace, else UNKNOWN."""
        wanted = tuple(asked)
        try:
            with self._context.sockets.borrowed() as socket:
                listed = link.list_all(socket)
        except (KernelError, OSError) as exc:
            return dict.fromkeys((one.key for one in wanted), Sighting(Presence.UNKNOWN, str(exc)))
        return {one.key: self._sight(one, listed) for one in wanted}

    def _sight(self, who: EndpointId, listed: Iterable[Link]) -> Sighting:
        if any(_is_of(one, who) for one in listed):
            return Sighting(Presence.THERE)
        try:
            with self._reach.opened(who.netns, None):
                return Sighting(Presence.UNKNOWN, f"{self._told(who.mode)}, and {who.netns} is there")
        except PathGone:
            return Sighting(Presence.GONE)
        except (KernelError, OSError) as exc:
            return Sighting(Presence.UNKNOWN, f"{self._told(who.mode)}: {exc}")

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """Of whose addresses nobody knows how they are found."""
        del lately
        return ()

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """Nobody knows what they should have."""
        del endpoints
        yield
        return ()

    def _told(self, word: str) -> str:
        return f"mode {word} is another release's; this one has {', '.join(self._modes)}"

    def _left_in_the_pod(self, who: EndpointId, netns: int | None) -> list[str]:
        """Deletes what borrows a link of the node's; says what stays until the namespace ends."""
        if netns is None:
            where = who.netns or "a path that nobody has told"
            return [f"whatever is in the pod's namespace ({where}), which was not looked at"]
        with Socket(netns) as inside:
            found = link.find(inside, who.key.ifname)
            if found is None:
                return []
            if found.kind in _BORROWED and found.lower_elsewhere:
                inside.one(link.delete(found.index).also_done_if(errno.ENODEV))
                return []
        return [f"link {who.key.ifname} ({found.kind or 'a device'}) in the pod's namespace"]


def _is_of(one: Link, who: EndpointId) -> bool:
    """By alias or MAC, or by a name that no other container has signed."""
    container, ifname = who.key
    if one.group == names.GROUP_DOOMED or (who.eni_mac and one.mac == who.eni_mac.lower()):
        return False
    if container in one.alias.split() or one.mac == names.host_mac(container, ifname):
        return True
    return bool(who.host_link) and one.name == who.host_link and not one.alias


def _links(socket: Socket, who: EndpointId) -> list[Link]:
    return [one for one in link.list_all(socket) if _is_of(one, who)]


def _about(socket: Socket, addresses: Iterable[Address]) -> list[Object]:
    """Rules, routes and permanent neighbours that are about nothing but one of the addresses."""
    hosts = {host_network(one) for one in addresses}
    found: list[Object] = []
    for family in (AF_INET, AF_INET6) if hosts else ():
        rules = [one for one in rule.list_all(socket, family) if one.by_address]
        found += [one for one in rules if {one.source, one.destination} & hosts]
        routes = [one for one in route.list_all(socket, family) if not one.ends_here]
        found += [one for one in routes if one.destination in hosts]
    wanted = {one.network_address for one in hosts}
    return found + [one for one in neighbour.list_permanent(socket) if one.address in wanted]
