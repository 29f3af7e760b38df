"""What the kernel holds of all pods on a node: the witness for recovery and repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from datapath.endpoint import Carrier, Endpoint
from datapath.modes.policy_route import layout
from datapath.modes.policy_route.node import FAMILIES
from datapath.modes.policy_route.plan import no_pod_rule
from datapath.netlink import address, link, neighbour, route, rule
from datapath.netlink.address import Assigned
from datapath.netlink.link import LOOPBACK, Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Network
from datapath.pod import names
from datapath.pod.names import HOST_LINK_PREFIX


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a node's namespace.

    ``links``: host ends of pods (by name), whoever made them; a link's ``alias`` is its container id, "" for
    upstream's. ``doomed``: taken out of use and about to be deleted. ``routes``: those in ``TABLE_PODS``;
    ``upstream_routes``: those of pods in the main table. ``rules``: ours and upstream's about pods, nobody
    else's; ``eni_rules``: ours about ENIs. ``addresses``: of the pods' host links and the loopback.
    ``others``: every other link of the node, as somebody may have renamed a pod's. ``peers``: the MAC of the
    pod's end by the host link's index, where a repair has asked for it.
    """

    links: tuple[Link, ...]
    doomed: tuple[Link, ...]
    routes: tuple[Route, ...]
    upstream_routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    neighbours: tuple[Neighbour, ...]
    eni_rules: tuple[Rule, ...] = ()
    addresses: tuple[Assigned, ...] = ()
    others: tuple[Link, ...] = field(default=())
    peers: Mapping[int, str] = field(default_factory=dict)

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
    doomed = [one for one in everything if one.group == names.GROUP_DOOMED]
    links = [one for one in everything if one.name.startswith(HOST_LINK_PREFIX) and one not in doomed]
    indices = {one.index for one in links}
    return Observed(
        links=tuple(links),
        doomed=tuple(doomed),
        routes=tuple(routes),
        upstream_routes=tuple(r for r in main if r.oif in indices and _is_single(r.destination)),
        rules=tuple(filter(is_pod_rule, rules)),
        neighbours=tuple(n for n in neighbours if n.index in indices),
        others=tuple(one for one in everything if one.index not in indices and one not in doomed),
        eni_rules=tuple(filter(is_eni_rule, rules)),
        addresses=tuple(a for a in addresses if a.index in indices or a.index == LOOPBACK),
    )


def carriers(observed: Observed, rows: Mapping[int, frozenset[Address]]) -> tuple[Carrier, ...]:
    """Every live link that a pod may be behind. ``rows``: what the fast path carries, by link.

    Read from what leads to a link, not from who is known to have made it: a ledger that was lost, cut or
    belongs to another time says nothing about which addresses are in use.
    """
    carried = _led_to(observed, rows)
    spoken_for = frozenset().union(*carried.values()) if carried else frozenset()
    by_rule = frozenset(a for one in observed.rules if (a := address_of(one)) is not None)
    macs = {one.index: one.mac for one in observed.others}
    return tuple(
        _carrier(observed, one, carried.get(one.index) or by_rule - spoken_for, macs)
        for one in (*observed.links, *(link for link in observed.others if link.index in carried))
    )


def _led_to(observed: Observed, rows: Mapping[int, frozenset[Address]]) -> dict[int, frozenset[Address]]:
    """Addresses by the link that routes, permanent neighbours and the fast path lead to."""
    there = {one.index for one in observed.links}
    there |= {one.index for one in observed.others if one.kind == "veth"}
    found: dict[int, frozenset[Address]] = {}
    for index, one in _signs(observed, rows):
        if index in there:
            found[index] = found.get(index, frozenset()) | {one}
    return found


def _signs(observed: Observed, rows: Mapping[int, frozenset[Address]]) -> Iterator[tuple[int, Address]]:
    for one in (*observed.routes, *observed.upstream_routes):
        if _is_single(one.destination):
            yield one.oif, one.destination.network_address
    for other in observed.neighbours:
        if not other.address.is_link_local:
            yield other.index, other.address
    for index, addresses in rows.items():
        for carried in addresses:
            yield index, carried


def _carrier(
    observed: Observed, one: Link, addresses: frozenset[Address], macs: Mapping[int, str]
) -> Carrier:
    tables = {r.table for r in observed.rules if is_source_rule(r) and address_of(r) in addresses}
    enis = frozenset(macs[t - layout.TABLE_ENI_BASE] for t in tables if t - layout.TABLE_ENI_BASE in macs)
    return Carrier(one.name, one.mac, one.alias, addresses, enis)


def owns(endpoint: Endpoint, found: Link) -> bool:
    """The link is this sandbox's: by its alias, or by its MAC, which no other sandbox's link has.

    One that was just made has no alias yet, and somebody may have changed one of the two.
    """
    return found.alias == endpoint.container_id or is_made_for(endpoint, found)


def is_made_for(endpoint: Endpoint, found: Link) -> bool:
    """The link has the MAC that we give to this sandbox's host link."""
    return found.mac == names.host_mac(endpoint.container_id, endpoint.ifname)


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
