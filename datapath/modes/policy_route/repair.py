"""What to do so that the host's side is as planned again. Pure: an observation in, steps out.

Three kinds of step: objects of a live pod that somebody deleted (systemd-networkd does, aws-cni#3309), traces
of upstream's way of routing the same pod, and leftovers of pods that are gone. Rules and routes of others are
never in an ``Observed``, so no step can touch them. A live link that no endpoint owns is a running pod whose
record the caller has lost: neither the link nor what leads to it is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from datapath import objects
from datapath.endpoint import Difference, Endpoint
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.node import ENI_SETTINGS, EniState, PreparedEni
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
from datapath.netlink.wire import Address, Request
from datapath.objects import Object
from datapath.pod.names import ASIDE_PREFIX, host_mac
from datapath.pod.names import pod_mac as planned_pod_mac


@dataclass(frozen=True, slots=True)
class Step:
    """``difference`` in words, and the requests that settle it."""

    difference: Difference
    requests: tuple[Request, ...]


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
    mine = owned(observed, endpoints)
    found: list[Step] = []
    for endpoint, host in mine.items():
        eni = enis.get(endpoint.eni.mac.lower())
        mac = pod_mac(observed, endpoint, host)
        place = Place(host.index, host.lower, eni or 0, host.mac, mac, own_gateway)
        if mac:
            found.extend(_mend_mac(endpoint, host))
        found.extend(_mend(observed, endpoint, host, place))
    found.extend(_stale_routes(observed, mine))
    found.extend(_stale_rules(observed, mine, rows))
    return found


def owned(observed: Observed, endpoints: Iterable[Endpoint]) -> dict[Endpoint, Link]:
    """The endpoints whose host link is there, with it."""
    by_name = {one.name: one for one in observed.links}
    return {e: by_name[e.host_link] for e in endpoints if _is_ours(observed, e, by_name.get(e.host_link))}


def node_steps(observed: Observed, families: Iterable[int], enis: Iterable[str]) -> list[Step]:
    """What the node has once, what is left of ENIs that are gone, and doomed links, which the reaper deletes.

    ``enis``: names of the links of the ENIs that are there.
    """
    wanted: list[Object] = [*(pods_rule(family) for family in sorted(families)), *node_addresses()]
    present: list[Object] = [*observed.rules, *observed.addresses]
    found = [
        Step(objects.difference(one, present), (objects.add(one),))
        for one in objects.missing(wanted, present)
    ]
    known = frozenset(enis)
    for left in observed.eni_rules:
        if left.iif not in known:
            found.append(_removal(left, "left behind: no ENI of ours has this name"))
    for one in observed.doomed:
        found.append(Step(Difference(f"link {one.name}", "left behind: its pod is gone"), ()))
    return found


def eni_steps(prepared: PreparedEni, state: EniState) -> list[Step]:
    """Link, addresses and table of an ENI that is there. One that is gone is for ``forget_eni``."""
    if state.link is None:
        return []
    found = []
    # It may have been renamed, and the rules are about its name.
    wanted = replace(prepared, name=state.link.name).objects()
    if not state.link.up:
        # The kernel dropped the routes and IPv6 addresses when the link went down.
        up = (link.change(prepared.ifindex, up=True), *map(objects.add, wanted))
        return [Step(Difference(f"link {prepared.name} of ENI {prepared.eni.mac}", "down"), up)]
    if state.link.mtu != prepared.eni.mtu:
        words = Difference(
            f"link {prepared.name} of ENI {prepared.eni.mac} mtu {prepared.eni.mtu}", f"mtu {state.link.mtu}"
        )
        found.append(Step(words, (link.change(prepared.ifindex, mtu=prepared.eni.mtu),)))
    if not state.link.has(ENI_SETTINGS):
        words = eni_set_otherwise(prepared)
        found.append(Step(words, (link.change(prepared.ifindex, ipv4=ENI_SETTINGS),)))
    for one in objects.missing(wanted, state.objects):
        found.append(Step(objects.difference(one, state.objects), (objects.add(one),)))
    return found


def eni_set_otherwise(prepared: PreparedEni) -> Difference:
    what = f"reverse path filter and accept_local of ENI {prepared.eni.mac}"
    return Difference(what, "set otherwise by somebody")


def _is_ours(observed: Observed, endpoint: Endpoint, host: Link | None) -> bool:
    """By alias or MAC; or upstream's (no alias), if it carries just this endpoint's addresses."""
    if host is None:
        return False
    if seen.owns(endpoint, host):
        return True
    return not host.alias and set(observed.addresses_of(host.index)) == set(endpoint.addresses())


def _mend(observed: Observed, endpoint: Endpoint, host: Link, place: Place) -> Iterator[Step]:
    yield from _mend_link(endpoint, host)
    wanted = plan(endpoint, place)
    planned: list[Object] = [*wanted.host_addresses, *wanted.host_routes]
    if place.pod_mac:
        planned.extend(wanted.host_neighbours)
    if place.eni:
        planned.extend(wanted.host_rules)
        yield from _conflicts(observed, wanted.host_rules)
    present: list[Object] = [
        *observed.addresses,
        *observed.routes,
        *observed.neighbours,
        *observed.rules,
    ]
    for one in objects.missing(planned, present):
        yield Step(objects.difference(one, present), (objects.add(one),))
    yield from _upstream_traces(observed, endpoint, host)


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
        words = Difference(f"link {host.name} MAC {wanted}", f"MAC {host.mac}")
        yield Step(words, (link.change(host.index, mac=wanted),))


def _mend_link(endpoint: Endpoint, host: Link) -> Iterator[Step]:
    name = f"link {host.name}"
    if host.alias != endpoint.container_id:
        found = f"alias {host.alias}" if host.alias else "without alias"
        words = Difference(f"{name} of container {endpoint.container_id}", found)
        yield Step(words, (link.change(host.index, alias=endpoint.container_id),))
    if not host.up:
        yield Step(Difference(name, "down"), (link.change(host.index, up=True),))
    if host.mtu != endpoint.mtu:
        words = Difference(f"{name} mtu {endpoint.mtu}", f"mtu {host.mtu}")
        yield Step(words, (link.change(host.index, mtu=endpoint.mtu),))
    if not host.has(HOST_LINK_SETTINGS):
        yield Step(not_shut_off(host.name), (link.change(host.index, ipv4=HOST_LINK_SETTINGS),))


def not_shut_off(host_link: str) -> Difference:
    return Difference(f"link {host_link}: what its pod may do to the node", "not shut off")


def _conflicts(observed: Observed, planned: Iterable[Rule]) -> Iterator[Step]:
    """Rules that send the same pod's packets by another ENI."""
    wanted = set(planned)
    sources = {one.source for one in wanted}
    for one in observed.rules:
        if seen.is_source_rule(one) and one.source in sources and one not in wanted:
            yield _removal(one, "leads to an ENI that is not the pod's")


def _upstream_traces(observed: Observed, endpoint: Endpoint, host: Link) -> Iterator[Step]:
    rules = {upstream_rule(one) for one in endpoint.addresses()}
    routes = {upstream_route(one, host.index, host.name) for one in endpoint.addresses()}
    for old_rule in observed.rules:
        if old_rule in rules:
            yield _removal(old_rule, "upstream's, replaced by the pods' table")
    for old_route in observed.upstream_routes:
        if old_route in routes:
            yield _removal(old_route, "upstream's, replaced by the pods' table")


def _stale_routes(observed: Observed, owned: Mapping[Endpoint, Link]) -> Iterator[Step]:
    """Routes to an owned link for an address that its endpoint does not have."""
    addresses = {host.index: set(endpoint.addresses()) for endpoint, host in owned.items()}
    for one in observed.routes:
        if one.oif in addresses and one.destination.network_address not in addresses[one.oif]:
            yield _removal(one, "the pod does not have this address")


def _stale_rules(
    observed: Observed, owned: Mapping[Endpoint, Link], rows: Mapping[int, frozenset[Address]]
) -> Iterator[Step]:
    """Rules for addresses that no endpoint has and no live link carries."""
    kept = {one for endpoint in owned for one in endpoint.addresses()}
    mine = {host.name for host in owned.values()}
    for carrier in seen.carriers(observed, rows):
        if carrier.link not in mine:
            kept.update(carrier.addresses)
    for one in observed.rules:
        subject = seen.address_of(one)
        if subject is not None and subject not in kept:
            yield _removal(one, "left behind: no pod has this address")


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
                words = Difference(f"link {endpoint.host_link}", f"named {host.name}")
                yield Step(words, (link.rename(host.index, endpoint.host_link),))


def _removal(one: Route | Rule, reason: str) -> Step:
    return Step(Difference(objects.describe(one), reason), (objects.delete(one),))
