"""Whether endpoints are there, by the links of the node alone: a pair dies with either end's namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from datapath.endpoint import EndpointId, EndpointKey, Presence, Sighting
from datapath.errors import KernelError
from datapath.netlink import link
from datapath.netlink.link import Link
from datapath.netlink.socket import Pool
from datapath.pod import names

_THERE, _GONE = Sighting(Presence.THERE), Sighting(Presence.GONE)


def sightings(sockets: Pool, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
    """A list of links that cannot be had makes all of them UNKNOWN."""
    wanted = tuple(asked)
    if not wanted:
        return {}
    try:
        with sockets.borrowed() as socket:
            links = [one for one in link.list_all(socket) if one.group != names.GROUP_DOOMED]
    except (KernelError, OSError) as exc:
        return dict.fromkeys((one.key for one in wanted), Sighting(Presence.UNKNOWN, str(exc)))
    return among(links, wanted)


def among(links: Iterable[Link], wanted: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
    """By a link's MAC, which no other sandbox's has, whatever the link is called; or by its name and alias.

    Somebody may have changed any of the three, and upstream's links have a MAC of their own and no alias. A
    link that has the sandbox's alias and neither its name nor the MAC of any interface of it proves nothing
    either way; nor does one that has its name alone.
    """
    wanted = tuple(wanted)
    macs = {names.host_mac(one.key.container_id, one.key.ifname): one.key for one in wanted}
    by_mac = {macs[one.mac] for one in links if one.mac in macs}
    others = [one for one in links if one.mac not in macs]
    by_name = {(one.name, one.alias) for one in others}
    strange = {one.alias: one.name for one in others if one.alias}
    unmarked = {one.name for one in others if not one.alias}
    found = {}
    for one in wanted:
        container = one.key.container_id
        if one.key in by_mac or (one.host_link, container) in by_name:
            found[one.key] = _THERE
        elif container in strange:
            why = f"link {strange[container]} has its alias, and another name and MAC than ours"
            found[one.key] = Sighting(Presence.UNKNOWN, why)
        elif one.host_link in unmarked:
            why = f"link {one.host_link} has its name, and neither an alias nor a MAC of ours"
            found[one.key] = Sighting(Presence.UNKNOWN, why)
        else:
            found[one.key] = _GONE
    return found
