"""What to do so that the host's side is as planned again. Pure: an observation in, steps out.

Three kinds of step: objects of a live pod that somebody deleted (systemd-networkd does, aws-cni#3309), traces
of upstream's way of routing the same pod, and leftovers of pods that are gone. What others have put beside
our objects is for ``foreign``. A live link that no endpoint owns is a running pod whose record the caller has
lost: neither the link nor what leads to it is touched.

A step tells whom it is about, since a pod may come or go between the observation and the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from datapath import objects
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route import settings
from datapath.modes.policy_route.node import EniState, PreparedEni
from datapath.modes.policy_route.observed import Observed
from datapath.modes.policy_route.plan import (
    HOST_LINK_SETTINGS,
    Place,
    node_addresses,
    plan,
    pods_rule,
    upstream_route,
    upstream_rule,
)
from datapath.netlink import link
from datapath.netlink.link import Link
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Address, Request, host_network
from datapath.objects import Object
from datapath.pod.names import ASIDE_PREFIX, host_mac
from datapath.pod.names import pod_mac as planned_pod_mac


@dataclass(frozen=True, slots=True)
class Step:
    """``difference`` in words, and what settles it: requests, and sysctls to write.

    ``host``: the pod's link that it is for, 0 for none: without that link it is not done. ``about``: the
    address that nobody had, None for none: it is not done once somebody has it. ``eni``: the ENI that it is
    for, None for none: it is not done once that is forgotten, or wanted otherwise. ``takes_away``: what goes
    by itself meanwhile was not in disorder. ``harmless``: this route is taken off as a leftover; who puts it
    back lives, and may have it.
    """

    difference: Difference
    requests: tuple[Request, ...]
    sysctls: Mapping[str, str] = field(default_factory=dict)
    host: int = 0
    about: Address | None = None
    eni: PreparedEni | None = None
    takes_away: bool = False
    harmless: Route | None = None


def steps(
    observed: Observed,
    endpoints: Sequence[Endpoint],
    enis: Mapping[str, int],
    rows: Mapping[int, frozenset[Address]],
    *,
    own_gateway: bool = False,
) -> list[Step]:
    """For ``endpoints``, all that should exist, and ``enis``, the link index of each known ENI's MAC.

    ``own_gateway`` as for ``Place``.
    A pod whose host link is gone, or is another sandbox's, gets no step: only ``setup`` can make it.
    ``rows``: what the fast path carries, by link.
    """
    return [one for one in pausing_steps(observed, endpoints, enis, rows, own_gateway=own_gateway) if one]


def pausing_steps(
    observed: Observed,
    endpoints: Sequence[Endpoint],
    enis: Mapping[str, int],
    rows: Mapping[int, frozenset[Address]],
    *,
    own_gateway: bool = False,
) -> Iterator[Step | None]:
    """``steps``, one by one; None is a moment at which a pause does no harm."""
    mine = owned(observed, endpoints)
    yield None
    present = Present(observed)
    yield None
    for endpoint, host in mine.items():
        eni = enis.get(endpoint.eni.mac.lower())
        mac = pod_mac(observed, endpoint, host)
        place = Place(host.index, host.lower, eni or 0, host.mac, mac, own_gateway)
        if mac:
            yield from _mend_mac(endpoint, host)
        yield from _mend(present, endpoint, host, place)
        yield None
    yield from _stale_routes(observed, mine)
    yield None
    yield from _stale_rules(observed, mine, rows)


class Present:
    """An observation by the pods that its objects are about."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self._by_link: dict[int, list[Object]] = defaultdict(list)
        self._rules: dict[Address, list[Rule]] = defaultdict(list)
        for address in observed.addresses:
            self._by_link[address.index].append(address)
        for route in observed.routes:
            self._by_link[route.oif].append(route)
        for neighbour in observed.neighbours:
            self._by_link[neighbour.index].append(neighbour)
        for rule in observed.rules:
            subject = seen.address_of(rule)
            if subject is not None:
                self._rules[subject].append(rule)

    def of_link(self, index: int) -> Sequence[Object]:
        """Addresses, neighbours, and routes of the pods' table."""
        return self._by_link.get(index, ())

    def rules(self, addresses: Iterable[Address]) -> list[Rule]:
        return [rule for address in addresses for rule in self._rules.get(address, ())]


def owned(observed: Observed, endpoints: Iterable[Endpoint]) -> dict[Endpoint, Link]:
    """The endpoints whose host link is there, with it."""
    by_name = {one.name: one for one in observed.links}
    return {e: by_name[e.host_link] for e in endpoints if _is_ours(observed, e, by_name.get(e.host_link))}


def node_steps(observed: Observed, families: Iterable[int], enis: Iterable[str]) -> list[Step]:
    """What the node has once, what is left of ENIs that are gone, and doomed links, which the reaper deletes.

    ``enis``: names of the links of the ENIs that are there.
    """
    present: list[Object] = [*observed.rules, *observed.addresses]
    found = []
    for address in node_addresses():
        # The kernel takes no other scope or length for an address that is there.
        others = [o for o in observed.addresses if o.index == address.index and o.address == address.address]
        if address not in others:
            words = objects.difference(address, present)
            found.append(Step(words, (*map(objects.delete, others), objects.add(address))))
    for rule in objects.missing([pods_rule(family) for family in sorted(families)], present):
        found.append(Step(objects.difference(rule, present), (objects.add(rule),)))
    known = frozenset(enis)
    for left in observed.eni_rules:
        if left.iif not in known:
            found.append(removal(left, "left behind: no ENI of ours has this name"))
    for one in observed.doomed:
        found.append(
            Step(Difference(ObjectKind.LINK, f"link {one.name}", "left behind: its pod is gone"), ())
        )
    return found


def eni_state(observed: Observed, prepared: PreparedEni, table: int) -> EniState:
    """What an observation has of a prepared ENI. ``table``: its number."""
    found = next((one for one in observed.others if one.index == prepared.ifindex), None)
    if found is None or found.mac != prepared.eni.mac.lower():
        return EniState(None, ())
    rules = (*observed.eni_rules, *observed.other_rules)
    return EniState(
        found,
        (
            *(one for one in observed.addresses if one.index == found.index),
            *observed.tables.get(table, ()),
            *(one for one in rules if one.iif == found.name),
            *(one for one in observed.other_neighbours if one.index == found.index),
        ),
    )


def eni_steps(prepared: PreparedEni, state: EniState) -> list[Step]:
    """Link, settings, addresses and table of an ENI that is there. One that is gone is for ``forget_eni``."""
    if state.link is None:
        return []
    # It may have been renamed, and the rules are about its name.
    wanted = replace(prepared, name=state.link.name).objects()
    # First, as the kernel takes no IPv6 object for a link where somebody has switched IPv6 off.
    found = eni_setting_steps(prepared, state.link)
    if not state.link.up:
        # The kernel dropped the routes and IPv6 addresses when the link went down.
        up = (link.change(prepared.ifindex, up=True), *map(objects.add, wanted))
        words = Difference(ObjectKind.LINK, f"link {prepared.name} of ENI {prepared.eni.mac}", "down")
        return [*found, Step(words, up)]
    if state.link.mtu != prepared.eni.mtu:
        what = f"link {prepared.name} of ENI {prepared.eni.mac} mtu {prepared.eni.mtu}"
        words = Difference(ObjectKind.LINK, what, f"mtu {state.link.mtu}")
        found.append(Step(words, (link.change(prepared.ifindex, mtu=prepared.eni.mtu),)))
    for one in objects.missing(wanted, state.objects):
        found.append(Step(objects.difference(one, state.objects), (objects.add(one),)))
    return found


def eni_setting_steps(prepared: PreparedEni, there: Link) -> list[Step]:
    found = []
    if not there.has(settings.ENI_SETTINGS):
        words = eni_set_otherwise(prepared)
        found.append(Step(words, (link.change(there.index, ipv4=settings.ENI_SETTINGS),)))
    rest = settings.Wanted(settings.FORWARDS, settings.ENI.ipv6)
    return found + setting_steps(there, rest, ipv6=prepared.eni.gateway_v6 is not None)


def setting_steps(there: Link, wanted: settings.Wanted, *, ipv6: bool, host: int = 0) -> list[Step]:
    """A step for each setting of a link that somebody has set otherwise."""
    return [
        Step(set_otherwise(name), (), {name: value}, host)
        for name, value in settings.otherwise(there, wanted, ipv6=ipv6).items()
    ]


def set_otherwise(name: str) -> Difference:
    return Difference(ObjectKind.SYSCTL, f"sysctl {name}", "set otherwise by somebody")


def eni_set_otherwise(prepared: PreparedEni) -> Difference:
    what = f"reverse path filter and accept_local of ENI {prepared.eni.mac}"
    return Difference(ObjectKind.SYSCTL, what, "set otherwise by somebody")


def _is_ours(observed: Observed, endpoint: Endpoint, host: Link | None) -> bool:
    """By alias or MAC; or upstream's (no alias), if it carries just this endpoint's addresses."""
    if host is None:
        return False
    if seen.owns(endpoint, host):
        return True
    return not host.alias and set(observed.addresses_of(host.index)) == set(endpoint.addresses())


def _mend(present: Present, endpoint: Endpoint, host: Link, place: Place) -> Iterator[Step]:
    yield from _mend_link(endpoint, host)
    wanted = plan(endpoint, place)
    planned: list[Object] = [*wanted.host_addresses, *wanted.host_routes]
    rules = present.rules(endpoint.addresses())
    if place.pod_mac:
        planned.extend(wanted.host_neighbours)
    if place.eni:
        planned.extend(wanted.host_rules)
        yield from _conflicts(rules, wanted.host_rules, host)
    there: list[Object] = [*present.of_link(host.index), *rules]
    missing = objects.missing(planned, there)
    if missing:
        observed = present.observed
        others: list[Object] = [*observed.addresses, *observed.routes, *observed.neighbours, *observed.rules]
        for one in missing:
            # As before: what is down gets its routes by the same batch that brings it up, or the next round.
            yield Step(objects.difference(one, others), (objects.add(one),), host=host.index)
    yield from _upstream_traces(present.observed, rules, endpoint, host)


def pod_mac(observed: Observed, endpoint: Endpoint, host: Link) -> str:
    """Known for pairs that we made. Upstream's pods are left to answer ARP.

    A pair whose host link has lost our MAC to somebody is told by its other end.
    """
    mac = planned_pod_mac(endpoint.container_id, endpoint.ifname)
    return mac if seen.is_made_for(endpoint, host) or observed.peers.get(host.index) == mac else ""


def _mend_mac(endpoint: Endpoint, host: Link) -> Iterator[Step]:
    """The pod sends to this MAC and asks nobody, so with another one it is cut off."""
    wanted = host_mac(endpoint.container_id, endpoint.ifname)
    if host.mac != wanted:
        words = Difference(ObjectKind.LINK, f"link {host.name} MAC {wanted}", f"MAC {host.mac}")
        yield Step(words, (link.change(host.index, mac=wanted),), host=host.index)


def _mend_link(endpoint: Endpoint, host: Link) -> Iterator[Step]:
    # First, as the kernel takes no IPv6 object for a link where somebody has switched IPv6 off.
    rest = settings.Wanted(settings.FORWARDS, settings.HOST_LINK.ipv6)
    yield from setting_steps(host, rest, ipv6=endpoint.ipv6 is not None, host=host.index)
    name = f"link {host.name}"
    if host.alias != endpoint.container_id:
        found = f"alias {host.alias}" if host.alias else "without alias"
        words = Difference(ObjectKind.LINK, f"{name} of container {endpoint.container_id}", found)
        yield Step(words, (link.change(host.index, alias=endpoint.container_id),), host=host.index)
    if not host.up:
        words = Difference(ObjectKind.LINK, name, "down")
        yield Step(words, (link.change(host.index, up=True),), host=host.index)
    if host.mtu != endpoint.mtu:
        words = Difference(ObjectKind.LINK, f"{name} mtu {endpoint.mtu}", f"mtu {host.mtu}")
        yield Step(words, (link.change(host.index, mtu=endpoint.mtu),), host=host.index)
    if not host.has(HOST_LINK_SETTINGS):
        shut = link.change(host.index, ipv4=HOST_LINK_SETTINGS)
        yield Step(not_shut_off(host.name), (shut,), host=host.index)


def not_shut_off(host_link: str) -> Difference:
    return Difference(ObjectKind.LINK, f"link {host_link}: what its pod may do to the node", "not shut off")


def _conflicts(rules: Iterable[Rule], planned: Iterable[Rule], host: Link) -> Iterator[Step]:
    """Rules that send the same pod's packets by another ENI."""
    for one in rules:
        if seen.is_source_rule(one) and one not in planned:
            yield replace(removal(one, "leads to an ENI that is not the pod's"), host=host.index)


def _upstream_traces(
    observed: Observed, rules: Iterable[Rule], endpoint: Endpoint, host: Link
) -> Iterator[Step]:
    theirs = {upstream_rule(one) for one in endpoint.addresses()}
    for old_rule in rules:
        if old_rule in theirs:
            yield replace(removal(old_rule, "upstream's, replaced by the pods' table"), host=host.index)
    if not observed.upstream_routes:
        return
    routes = {upstream_route(one, host.index, host.name) for one in endpoint.addresses()}
    for old_route in observed.upstream_routes:
        if old_route in routes:
            step = removal(old_route, "upstream's, replaced by the pods' table")
            yield replace(step, host=host.index, harmless=old_route)


def _stale_routes(observed: Observed, owned: Mapping[Endpoint, Link]) -> Iterator[Step]:
    """Routes to an owned link for an address that its endpoint does not have."""
    networks = {
        host.index: {host_network(one) for one in endpoint.addresses()} for endpoint, host in owned.items()
    }
    for one in observed.routes:
        if one.oif in networks and one.destination not in networks[one.oif]:
            yield replace(removal(one, "the pod does not have this address"), host=one.oif)


def _stale_rules(
    observed: Observed, owned: Mapping[Endpoint, Link], rows: Mapping[int, frozenset[Address]]
) -> Iterator[Step]:
    """Rules for addresses that no endpoint has and no live link carries."""
    kept = {one for endpoint in owned for one in endpoint.addresses()}
    about = [one for one in observed.rules if seen.address_of(one) not in kept]
    if not any(seen.address_of(one) is not None for one in about):
        return
    mine = {host.name for host in owned.values()}
    for carrier in seen.carriers(observed, rows):
        if carrier.link not in mine:
            kept.update(carrier.addresses)
    for one in about:
        subject = seen.address_of(one)
        if subject is not None and subject not in kept:
            step = removal(one, "left behind: no pod has this address")
            yield replace(step, about=subject)


def back_in_place(observed: Observed, endpoints: Iterable[Endpoint]) -> Iterator[Step]:
    """Links that a crash left moved aside for a sandbox that never was, and those that somebody renamed.

    To be done before anything else, and looked at again: a link by another name is nobody's. A pod's links
    have one alias, so a renamed one is known by its MAC.
    """
    names = {one.name for one in observed.links}
    aside = [one for one in observed.links if one.name.startswith(ASIDE_PREFIX)]
    everything = (*observed.links, *observed.others)
    for endpoint in endpoints:
        if endpoint.host_link not in names:
            renamed = [one for one in everything if seen.is_made_for(endpoint, one)]
            for host in (renamed or [one for one in aside if seen.owns(endpoint, one)])[:1]:
                words = Difference(ObjectKind.LINK, f"link {endpoint.host_link}", f"named {host.name}")
                yield Step(words, (link.rename(host.index, endpoint.host_link),), host=host.index)


def removal(one: Object, reason: str) -> Step:
    return Step(
        Difference(objects.kind_of(one), objects.describe(one), reason),
        (objects.delete(one).strictly(),),
        takes_away=True,
    )
