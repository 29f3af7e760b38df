"""What the kernel holds of all pods on a node: the witness for recovery and repair."""

from __future__ import annotations

from dataclasses import dataclass

from datapath import layout
from datapath.endpoint import HOST_LINK_PREFIX, Endpoint
from datapath.netlink import address, link, neighbour, route, rule
from datapath.netlink.address import Assigned
from datapath.netlink.link import Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Network
from datapath.node import FAMILIES
from datapath.plan import LOOPBACK, no_pod_rule


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a node's namespace.

    ``links``: host ends of pods (by name), whoever made them; a link's ``alias`` is its container id, "" for
    upstream's. ``doomed``: taken out of use and about to be deleted. ``routes``: those in ``TABLE_PODS``;
    ``upstream_routes``: those of pods in the main table. ``rules``: ours and upstream's about pods, nobody
    else's; ``eni_rules``: ours about ENIs. ``addresses``: of the pods' host links and the loopback.
    """

    links: tuple[Link, ...]
    doomed: tuple[Link, ...]
    routes: tuple[Route, ...]
    upstream_routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    neighbours: tuple[Neighbour, ...]
    eni_rules: tuple[Rule, ...] = ()
    addresses: tuple[Assigned, ...] = ()

    def addresses_of(self, index: int) -> tuple[Address, ...]:
        """Addresses that are routed to link ``index``, by us or by upstream."""
        both = (*self.routes, *self.upstream_routes)
        return tuple(dict.fromkeys(r.destination.network_address for r in both if r.oif == index))


def observe(socket: Socket) -> Observed:
    """Rules first and links last: what a parallel ``setup`` has written a rule for has its route and link."""
    rules = [one for family in FAMILIES for one in rule.list_all(socket, family)]
    routes = [one for family in FAMILIES for one in route.list_table(socket, family, layout.TABLE_PODS)]
    main = [one for family in FAMILIES for one in route.list_table(socket, family, MAIN)]
    neighbours = neighbour.list_permanent(socket)
    addresses = address.list_all(socket)
    everything = link.list_all(socket)
    doomed = [one for one in everything if one.group == layout.GROUP_DOOMED]
    links = [one for one in everything if one.name.startswith(HOST_LINK_PREFIX) and one not in doomed]
    indices = {one.index for one in links}
    return Observed(
        links=tuple(links),
        doomed=tuple(doomed),
        routes=tuple(routes),
        upstream_routes=tuple(r for r in main if r.oif in indices and _is_single(r.destination)),
        rules=tuple(filter(is_pod_rule, rules)),
        neighbours=tuple(n for n in neighbours if n.index in indices),
        eni_rules=tuple(filter(is_eni_rule, rules)),
        addresses=tuple(a for a in addresses if a.index in indices or a.index == LOOPBACK),
    )


def owns(endpoint: Endpoint, found: Link) -> bool:
    """The link is this sandbox's. One that was just made has no alias yet, but already our MAC."""
    if found.alias:
        return found.alias == endpoint.container_id
    return found.mac == layout.host_mac(endpoint.container_id, endpoint.ifname)


def paired(host: Link, inside: Link) -> bool:
    """The two are ends of one pair, seen from the node and from a pod."""
    crossed = host.lower == inside.index and inside.lower == host.index
    return crossed and host.lower_elsewhere and inside.lower_elsewhere


def is_pod_rule(one: Rule) -> bool:
    """Made by us or by upstream. Who selects by anything more is left alone."""
    return is_source_rule(one) or is_upstream_rule(one) or _leads_to_all_pods(one)


def is_source_rule(one: Rule) -> bool:
    """From one pod to an ENI's table."""
    if not one.by_address or one.priority != layout.PRIORITY_FROM_POD or one.destination is not None:
        return False
    return one.source is not None and _is_single(one.source) and one.table > layout.TABLE_ENI_BASE


def is_eni_rule(one: Rule) -> bool:
    """Made by us, about what comes in by an ENI, be it there or not."""
    return bool(one.iif) and one == no_pod_rule(one.family, one.iif)


def is_upstream_rule(one: Rule) -> bool:
    """To one pod, by the main table."""
    if not one.by_address or one.priority != layout.PRIORITY_TO_POD or one.source is not None:
        return False
    return one.destination is not None and _is_single(one.destination) and one.table == MAIN


def address_of(one: Rule) -> Address | None:
    """The pod's address that a rule is about, None for the rule of all pods."""
    selected = one.source if one.source is not None else one.destination
    return None if selected is None else selected.network_address


def _leads_to_all_pods(one: Rule) -> bool:
    unselective = one.by_address and one.source is None and one.destination is None
    return unselective and one.priority == layout.PRIORITY_TO_POD and one.table == layout.TABLE_PODS


def _is_single(network: Network) -> bool:
    return network.prefixlen == network.max_prefixlen
