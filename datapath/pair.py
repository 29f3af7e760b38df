"""Makes the veth pair of an endpoint, whatever is in its way, or finds the one that a repeated ADD made."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from datapath import layout, pod_side
from datapath import observed as seen
from datapath.endpoint import Endpoint
from datapath.errors import KernelError, NameTaken
from datapath.netlink import link
from datapath.netlink.link import End, Link
from datapath.netlink.socket import Socket
from datapath.observed import paired
from datapath.reaper import Reaper

CREATE_TRIES = 4
"""Each try can meet one thing in its way: an old host link, then its end in the pod, then a doomed link."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The host's end, the MAC of the pod's, and whether they were made now."""

    host: Link
    pod_mac: str
    fresh: bool


Retire = Callable[[Socket, Link], None]
"""Takes an old sandbox's host link out of use, with all that leads to it."""


class PairMaker:
    """``retire`` gets rid of old host links, ``reaper`` says when doomed ones are gone."""

    def __init__(self, reaper: Reaper, retire: Retire) -> None:
        self._reaper = reaper
        self._retire = retire

    def make(self, socket: Socket, endpoint: Endpoint, netns: int) -> Pair:
        """Raises NameTaken; then nothing was made."""
        for _ in range(CREATE_TRIES):
            made = _create(socket, endpoint, netns)
            if made is not None:
                return Pair(made, layout.pod_mac(endpoint.container_id, endpoint.ifname), fresh=True)
            present = self._make_way(socket, endpoint, netns)
            if present is not None:
                return present
        raise KernelError(
            "create link",
            errno=errno.EEXIST,
            object=endpoint.host_link,
            detail="something keeps making a link of this name; is another CNI plugin at work?",
        )

    def _make_way(self, socket: Socket, endpoint: Endpoint, netns: int) -> Pair | None:
        """A name was in use. The pair if it is this endpoint's already, None when it is worth a new try."""
        host = link.find(socket, endpoint.host_link)
        inside = pod_side.find(netns, endpoint.ifname)
        connected = False
        if host is not None:
            ours = seen.owns(endpoint, host)
            connected = inside is not None and paired(host, inside)
            if ours and connected and inside is not None:
                return Pair(host, inside.mac, fresh=False)
            if ours or connected or inside is None:
                self._retire(socket, host)
        if inside is None:
            return None
        # It may be the end of a link that is doomed, by a teardown before or just now.
        self._reaper.flush()
        if pod_side.find(netns, endpoint.ifname) is None:
            return None
        raise NameTaken(
            "create interface",
            errno=errno.EEXIST,
            object=f"{endpoint.ifname} in the pod's namespace",
            detail="another plugin made it; give each plugin of the chain its own interface name",
        )


def _create(socket: Socket, endpoint: Endpoint, netns: int) -> Link | None:
    """None if one of the two names is in use."""
    here = End(endpoint.host_link, layout.host_mac(endpoint.container_id, endpoint.ifname))
    there = End(endpoint.ifname, layout.pod_mac(endpoint.container_id, endpoint.ifname))
    request = link.create_veth(here, there, netns=netns, mtu=endpoint.mtu)
    try:
        _, answer = socket.transact(request, link.get(endpoint.host_link))
    except KernelError as exc:
        if exc.errno != errno.EEXIST:
            raise
        return None
    if answer is None:
        raise KernelError("create link", errno=errno.ENODEV, object=endpoint.host_link, detail="vanished")
    return link.decode(answer)
