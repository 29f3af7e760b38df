"""Makes the veth pair of an endpoint, whatever is in its way, or finds the one that a repeated ADD made."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass, replace

from datapath.endpoint import Endpoint
from datapath.errors import AddressTaken, KernelError, NameTaken
from datapath.modes.policy_route import host_side, standing
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.observed import paired
from datapath.modes.policy_route.standing import Standing
from datapath.netlink import link, route
from datapath.netlink.link import End, Link
from datapath.netlink.route import Path
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address
from datapath.pod import inside as pod_side
from datapath.pod import names
from datapath.pod.reaper import Reaper

log = logging.getLogger(__name__)

CREATE_TRIES = 4
"""Each try can meet one thing in its way: an old host link, then its end in the pod, then a doomed link."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The host's end, the MAC of the pod's, and whether they were made now.

    ``before``: what stood when the ADD came. Of a pair that was made now, an earlier sandbox's link, which is
    moved aside; of one that was not, the pair itself. None if nothing was in the way.
    """

    host: Link
    pod_mac: str
    fresh: bool
    before: Standing | None = None


class PairMaker:
    """``reaper`` says when doomed links are gone."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper

    def make(self, socket: Socket, endpoint: Endpoint, netns: int) -> Pair:
        """Raises NameTaken or AddressTaken; on any failure nothing was made, and nothing taken away."""
        before: Standing | None = None
        try:
            for _ in range(CREATE_TRIES):
                made = _create(socket, endpoint, netns, before)
                if made is not None:
                    pod_mac = names.pod_mac(endpoint.container_id, endpoint.ifname)
                    return Pair(made, pod_mac, fresh=True, before=before)
                found = self._make_way(socket, endpoint, netns)
                if isinstance(found, Pair):
                    return found
                before = found or before
        except BaseException:
            _put_back(socket, before)
            raise
        _put_back(socket, before)
        raise KernelError(
            "create link",
            errno=errno.EEXIST,
            object=endpoint.host_link,
            detail="something keeps making a link of this name; is another CNI plugin at work?",
        )

    def _make_way(self, socket: Socket, endpoint: Endpoint, netns: int) -> Pair | Standing | None:
        """A name was in use. The pair if it is in this very namespace already, else it is worth a new try.

        Then what was moved aside for it, None if that was not needed.
        """
        host = link.find(socket, endpoint.host_link)
        inside = pod_side.find(netns, endpoint.ifname)
        if host is not None:
            if inside is not None and paired(host, inside):
                stands = standing.look(socket, host)
                _refuse_taken(socket, endpoint, (host.index,))
                _refuse_other_addresses(endpoint, stands)
                host = _with_its_mac(socket, endpoint, host, inside)
                return Pair(host, inside.mac, fresh=False, before=stands)
            if inside is None or seen.owns(endpoint, host):
                stands = standing.look(socket, host)
                standing.move_aside(socket, stands)
                if inside is None:
                    return stands
                return self._freed(endpoint, netns, stands)
        return self._freed(endpoint, netns, None) if inside is not None else None

    def _freed(self, endpoint: Endpoint, netns: int, aside: Standing | None) -> Standing | None:
        """The interface in the pod may be the end of a link that is doomed. Raises NameTaken if it is not."""
        self._reaper.flush()
        if pod_side.find(netns, endpoint.ifname) is None:
            return aside
        raise NameTaken(
            "create interface",
            errno=errno.EEXIST,
            object=f"{endpoint.ifname} in the pod's namespace",
            detail="another plugin made it; give each plugin of the chain its own interface name",
        )


def _with_its_mac(socket: Socket, endpoint: Endpoint, host: Link, inside: Link) -> Link:
    """The host's end of a pair that we made, with the MAC that we gave it: somebody may have set another.

    The pod will send to what it is told now and ask nobody, and the next repair puts the MAC back.
    """
    wanted = names.host_mac(endpoint.container_id, endpoint.ifname)
    ours = inside.mac == names.pod_mac(endpoint.container_id, endpoint.ifname)
    if not ours or host.mac == wanted:
        return host
    socket.one(link.change(host.index, mac=wanted))
    return replace(host, mac=wanted)


def _put_back(socket: Socket, before: Standing | None) -> None:
    if before is None:
        return
    try:
        standing.put_back(socket, before)
    except KernelError as exc:
        log.error("%s could not be put back yet, the next repair does: %s", before.host.name, exc)


def _create(socket: Socket, endpoint: Endpoint, netns: int, before: Standing | None) -> Link | None:
    """None if one of the two names is in use.

    Whether another link has the address is asked in the same message, before anything leads to the new one.
    """
    here = End(endpoint.host_link, names.host_mac(endpoint.container_id, endpoint.ifname))
    there = End(endpoint.ifname, names.pod_mac(endpoint.container_id, endpoint.ifname))
    request = link.create_veth(here, there, netns=netns, mtu=endpoint.mtu)
    asked = [route.lookup(Path(one)) for one in endpoint.addresses()]
    try:
        _, answer, *ways = socket.transact(request, link.get(endpoint.host_link), *asked)
    except KernelError as exc:
        if exc.errno != errno.EEXIST:
            raise
        return None
    if answer is None:
        raise KernelError("create link", errno=errno.ENODEV, object=endpoint.host_link, detail="vanished")
    made = link.decode(answer)
    aside = () if before is None else (before.host.index,)
    taken = host_side.taken(socket, endpoint.addresses(), ways, free=aside)
    if taken:
        socket.one(link.delete(made.index))
        raise _taken(endpoint, taken)
    return made


def _refuse_taken(socket: Socket, endpoint: Endpoint, free: tuple[int, ...]) -> None:
    ways = socket.transact(*(route.lookup(Path(one)) for one in endpoint.addresses()))
    taken = host_side.taken(socket, endpoint.addresses(), ways, free=free)
    if taken:
        raise _taken(endpoint, taken)


def _refuse_other_addresses(endpoint: Endpoint, stands: Standing) -> None:
    """A sandbox keeps its addresses: a caller that says otherwise has lost the record of them."""
    other = stands.addresses and set(stands.addresses) != set(endpoint.addresses())
    if other and seen.owns(endpoint, stands.host):
        raise _taken(endpoint, dict.fromkeys(stands.addresses, stands.host.index))


def _taken(endpoint: Endpoint, taken: dict[Address, int]) -> AddressTaken:
    told = ", ".join(f"{address} (link {oif})" for address, oif in taken.items())
    return AddressTaken(
        "set up a pod",
        errno=errno.EADDRINUSE,
        object=endpoint.host_link,
        detail=f"a running pod carries {told}",
    )
