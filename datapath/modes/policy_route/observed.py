"""What the kernel holds of all pods on a node: the witness for recovery and repair."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from datapath.endpoint import Carrier, Endpoint
from datapath.modes.policy_route import layout
from datapath.modes.policy_route.node import FAMILIES
from datapath.modes.policy_route.plan import no_pod_rule
from datapath.netlink import address, link, neighbour, route, rule
from datapath.netlink.address import Assigned
from datapath.netlink.link import Link
from datapath.netlink.memory import Memory
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Network
from datapath.pausing import Pausing, at_once
from datapath.pod import names
from datapath.pod.names import HOST_LINK_PREFIX


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a node's namespace.

    ``links``: host ends of pods (by name), whoever made them; a link's ``alias`` is its container id, "" for
    upstream's. ``doomed``: taken out of use and about to be deleted. ``routes``: those in ``TABLE_PODS``;
    ``upstream_routes``: those of pods in the main table. ``rules``: ours and upstream's about pods, nobody
    else's; ``eni_rules``: ours about ENIs. ``addresses``: all. ``others``: every other link of the node, as
    somebody may have renamed a pod's. ``peers``: the MAC of the pod's end by the host link's index, where a
    repair has asked for it. ``tables``: routes of ENIs' tables, by their number, where they were asked for.
    ``other_rules``: everybody else's. ``neighbours`` are the permanent ones of pods' links, and
    ``other_neighbours`` those of all other links.
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
    tables: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    other_rules: tuple[Rule, ...] = ()
    other_neighbours: tuple[Neighbour, ...] = ()

    def addresses_of(self, index: int) -> tuple[Address, ...]:
        """Addresses that are routed to link ``index``, by us or by upstream."""
        both = (*self.routes, *self.upstream_routes)
        return tuple(dict.fromkeys(r.destination.network_address for r in both if r.oif == index))

    def is_as(self, before: Observed) -> bool:
        """The kernel said the same, byte for byte: both were read by one memory."""
        if self is before:
            return True
        if self.tables.keys() != before.tables.keys():
            return False
        pairs: list[tuple[Sequence[object], Sequence[object]]] = [
            (self.links, before.links),
            (self.doomed, before.doomed),
            (self.routes, before.routes),
            (self.upstream_routes, before.upstream_routes),
            (self.rules, before.rules),
            (self.neighbours, before.neighbours),
            (self.eni_rules, before.eni_rules),
            (self.addresses, before.addresses),
            (self.others, before.others),
            (self.other_rules, before.other_rules),
            (self.other_neighbours, before.other_neighbours),
        ]
        pairs += [(routes, before.tables[number]) for number, routes in self.tables.items()]
        return all(len(a) == len(b) and all(map(operator.is_, a, b)) for a, b in pairs)


def observe(socket: Socket) -> Observed:
    """Without ENIs' tables."""
    return at_once(observing(socket, Memory()))


def observing(socket: Socket, memory: Memory, tables: Iterable[int] = ()) -> Pausing[Observed]:
    """Rules first and links last: what a parallel ``setup`` has written a rule for has its route and link.

    ``tables``: numbers of ENIs' tables. The very same observation comes again while the kernel says the same.
    """
    tables = tuple(tables)
    rules: list[list[Rule]] = []
    for family in FAMILIES:
        rules.append(memory.read(socket, rule.listing(family)))
        yield
    numbers = (*tables, layout.TABLE_PODS, MAIN)
    routes: list[list[Route | None]] = []
    for table in numbers:
        for family in FAMILIES:
            routes.append(memory.read(socket, route.listing(family, table)))
            yield
    neighbours = memory.read(socket, neighbour.listing())
    yield
    addresses = memory.read(socket, address.LISTING)
    yield
    links = memory.read(socket, link.LISTING)
    yield

    def make() -> Observed:
        listed: dict[int, list[Route]] = {table: [] for table in numbers}
        for table, found in zip((n for n in numbers for _ in FAMILIES), routes, strict=True):
            listed[table] += [one for one in found if one is not None and one.table == table]
        return _observed([*chain(*rules)], listed, neighbours, addresses, links)

    parts = (*rules, *routes, neighbours, addresses, links)
    return memory.made("observed" if tables else "glance", parts, make)


def _observed(
    rules: Sequence[Rule],
    routes: dict[int, list[Route]],
    neighbours: Iterable[Neighbour | None],
    addresses: Iterable[Assigned],
    links: Sequence[Link],
) -> Observed:
    doomed = [one for one in links if one.group == names.GROUP_DOOMED]
    pods = [one for one in links if one.name.startswith(HOST_LINK_PREFIX) and one.group != names.GROUP_DOOMED]
    indices = {one.index for one in pods}

    def is_upstreams(one: Route) -> bool:
        return one.oif in indices and is_single(one.destination) and not one.ends_here

    return Observed(
        links=tuple(pods),
        doomed=tuple(doomed),
        routes=tuple(routes.pop(layout.TABLE_PODS)),
        upstream_routes=tuple(filter(is_upstreams, routes.pop(MAIN))),
        rules=tuple(filter(is_pod_rule, rules)),
        neighbours=tuple(n for n in neighbours if n is not None and n.index in indices),
        others=tuple(one for one in links if one.index not in indices and one.group != names.GROUP_DOOMED),
        eni_rules=tuple(filter(is_eni_rule, rules)),
        addresses=tuple(addresses),
        tables={number: tuple(found) for number, found in routes.items()},
        other_rules=tuple(one for one in rules if not is_pod_rule(one) and not is_eni_rule(one)),
        other_neighbours=tuple(n for n in neighbours if n is not None and n.index not in indices),
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
    tables: dict[Address, set[int]] = {}
    for one in observed.rules:
        if is_source_rule(one) and one.source is not None:
            tables.setdefault(one.source.network_address, set()).add(one.table)
    found = []
    for host in (*observed.links, *(o for o in observed.others if o.index in carried)):
        addresses = carried.get(host.index) or by_rule - spoken_for
        numbers = {table - layout.TABLE_ENI_BASE for one in addresses for table in tables.get(one, ())}
        enis = frozenset(macs[number] for number in numbers if number in macs)
        found.append(Carrier(host.name, host.mac, host.alias, addresses, enis))
    return tuple(found)


def _led_to(observed: Observed, rows: Mapping[int, frozenset[Address]]) -> dict[int, frozenset[Address]]:
    """Addresses by the link that routes, permanent neighbours and the fast path lead to.

    A route in the main table is upstream's way to its own pods, and no sign of an address where there are
    ours: Felix keeps such routes as well, and is late with them.
    """
    there = {one.index for one in observed.links}
    there |= {one.index for one in observed.others if one.kind == "veth"}
    found: dict[int, frozenset[Address]] = {}
    for index, one in _signs(observed, rows):
        if index in there:
            found[index] = found.get(index, frozenset()) | {one}
    ours = frozenset(found)
    for old in observed.upstream_routes:
        if old.oif in there and old.oif not in ours:
            found[old.oif] = found.get(old.oif, frozenset()) | {old.destination.network_address}
    return found


def _signs(observed: Observed, rows: Mapping[int, frozenset[Address]]) -> Iterator[tuple[int, Address]]:
    for one in observed.routes:
        if is_single(one.destination):
            yield one.oif, one.destination.network_address
    for other in observed.neighbours:
        if not other.address.is_link_local:
            yield other.index, other.address
    for index, addresses in rows.items():
        for carried in addresses:
            yield index, carried


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
    return one.source is not None and is_single(one.source) and one.table > layout.TABLE_ENI_BASE


def is_eni_rule(one: Rule) -> bool:
    """Made by us, about what comes in by an ENI, be it there or not."""
    return bool(one.iif) and one == no_pod_rule(one.family, one.iif)


def is_upstream_rule(one: Rule) -> bool:
    """To one pod, by the main table."""
    if not one.by_address or one.priority != layout.PRIORITY_TO_POD or one.source is not None:
        return False
    return one.destination is not None and is_single(one.destination) and one.table == MAIN


def address_of(one: Rule) -> Address | None:
    """The pod's address that a rule is about, None for the rule of all pods."""
    selected = one.source if one.source is not None else one.destination
    return None if selected is None else selected.network_address


def _leads_to_all_pods(one: Rule) -> bool:
    unselective = one.by_address and one.source is None and one.destination is None
    return unselective and one.priority == layout.PRIORITY_TO_POD and one.table == layout.TABLE_PODS


def is_single(network: Network) -> bool:
    return network.prefixlen == network.max_prefixlen
