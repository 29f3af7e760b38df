"""Whether a pod without a host link is there: what its namespace shows and what its ENI says, put together.

=================================== ===================== =======================================
the path of the pod's namespace     the ENI               the pod is
=================================== ===================== =======================================
leads to it, and it has the slave   (not asked)           there
leads to it, without the slave      has no slave          gone
is gone, or another namespace's     has no slave          gone
any of these two                    has a slave           unknown: the slave is somewhere else
cannot be opened or listed          (not asked)           unknown
(not asked)                         names another pod     gone: an ENI has one slave at most
any but the first                   is not on the node    gone: a slave goes with its ENI
=================================== ===================== =======================================
"""

from __future__ import annotations

from dataclasses import dataclass

from datapath.endpoint import EndpointId, Presence, Sighting
from datapath.errors import KernelError
from datapath.modes.macvlan import slave
from datapath.modes.macvlan.mark import Mark
from datapath.namespace import Identity
from datapath.netlink import link
from datapath.netlink.link import Link
from datapath.netlink.socket import Socket
from datapath.pod.reach import NamespaceReach, PathGone, PathReused
from datapath.pod.reaper import Reaper


@dataclass(frozen=True, slots=True)
class Eni:
    """An ENI's link, and what the node has written on it; ``mark`` None if nothing."""

    link: Link
    mark: Mark | None

    @property
    def mac(self) -> str:
        """Its own, which a pod may have altered."""
        return self.link.mac if self.mark is None else self.mark.mac


@dataclass(frozen=True, slots=True)
class Witnesses:
    """``socket`` is of the node's namespace."""

    socket: Socket
    reaper: Reaper
    reach: NamespaceReach

    def sight(self, who: EndpointId, eni: Eni | None) -> Sighting:
        """The table above. Never raises."""
        if eni is not None and eni.mark is not None and eni.mark.key != who.key:
            return Sighting(Presence.GONE, f"its ENI is container {eni.mark.key}'s")
        try:
            return self._sight(who, eni)
        except (KernelError, OSError) as exc:
            return Sighting(Presence.UNKNOWN, str(exc))

    def _sight(self, who: EndpointId, eni: Eni | None) -> Sighting:
        where = "its namespace has no slave of the ENI"
        try:
            with self.reach.opened(*whereabouts(who, eni)) as netns:
                found = (
                    _of_nobody(netns, who) if eni is None else slave.find(netns, eni.link.index) is not None
                )
            if found:
                return Sighting(Presence.THERE)
        except (PathGone, PathReused) as exc:
            where = str(exc)
        if eni is None:
            return Sighting(Presence.GONE, "its ENI is not on the node")
        if slave.occupied(self.socket, self.reaper, eni.link):
            return Sighting(Presence.UNKNOWN, f"{where}, but {eni.link.name} has one somewhere")
        return Sighting(Presence.GONE)


def whereabouts(who: EndpointId, eni: Eni | None) -> tuple[str, Identity | None]:
    """Path of the pod's namespace and which it is. The ENI's word counts before a ledger's."""
    mark = None if eni is None or eni.mark is None or eni.mark.key != who.key else eni.mark
    if mark is None:
        return who.netns, None
    return mark.path or who.netns, mark.netns


def _of_nobody(netns: int, who: EndpointId) -> bool:
    """A macvlan link of the endpoint's name, though no ENI of the node is known to be its."""
    with Socket(netns) as socket:
        found = link.find(socket, who.key.ifname)
    return found is not None and found.kind == slave.KIND
