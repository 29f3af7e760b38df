"""What others have put where our objects are: taken off, or told. Pure: an observation in, steps out.

    what                                   where                        what becomes of it
    an address beside ours                 a pod's host link            off: the link is ours alone, and the
                                                                        address somebody else's
                                           an ENI, its network having   off: the node would take packets of
                                           a pod or the gateway in it   pods, or of their whole vSwitch
                                           an ENI, /32 or /128          off: so we give the node's own address
                                                                        to an ENI, and it is that no more
                                           an ENI, else                 told: it takes nothing from a pod
    a permanent neighbour                  a pod's host link, another   off: the link is ours alone
                                           address than the pod's
                                           an ENI, of its gateway       off: all pods send to that MAC, and
                                                                        nobody asks for the right one
                                           an ENI, else                 told: no pod sends to it
    a route beside ours                    an ENI's table               off: nobody but the ENI's pods is
                                                                        looked up there
                                           the pods' table, by no       off: the same
                                           pod's link
    a route to a pod by its own    the main table               off once, as upstream's leftover; who puts
    link                                                        it back lives: told, the pods' table is first
    a rule for everybody, or for           priority 512                 off: asked before ours or in its place
    what comes by our links
    another rule about an ENI of ours      priority 1024                off
    another rule about a pod of ours       priority 2048                off: asked before ours or in its place
    a rule of another priority             before 2048                  told, if pods' packets go another way
                                                                        by it (``rounds``)
    a rule that selects by a mark, a       anywhere                     left: it is somebody's who knows why
    port or a user, or has host bits

Who puts it back each second is stronger than a repair: what comes again and again is left for longer and
longer, and told (``patience``). IPv6 link-local addresses are the kernel's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface

from datapath import objects
from datapath.difference import Difference, ObjectKind
from datapath.modes.policy_route import layout
from datapath.modes.policy_route.node import EniState, PreparedEni
from datapath.modes.policy_route.observed import Observed, is_single
from datapath.modes.policy_route.plan import Plan
from datapath.modes.policy_route.repair import Step, removal
from datapath.netlink.address import Assigned
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Address, Network


@dataclass(frozen=True, slots=True)
class Ours:
    """``hosts``: host links of pods that we have records of, with what they should have."""

    pods: frozenset[Address]
    hosts: dict[int, Plan]
    links: frozenset[str]
    """Names of pods' host links and of ENIs' links."""


def steps(observed: Observed, ours: Ours, enis: Collection[tuple[PreparedEni, EniState]]) -> Iterator[Step]:
    """What is taken off."""
    for prepared, state in enis:
        if state.link is not None:
            yield from _on_eni(prepared, state, ours)
    for one in observed.addresses:
        planned = ours.hosts.get(one.index)
        if planned is not None and one not in planned.host_addresses and not _is_kernels(one):
            step = removal(one, "on a pod's link by another hand: its owner was out of reach")
            # With a link's last address of IPv4 the kernel takes its routes and neighbours.
            again: list[objects.Object] = [*planned.host_routes, *planned.host_neighbours]
            yield replace(step, requests=(*step.requests, *map(objects.add, again)), host=one.index)
    for neighbour in observed.neighbours:
        planned = ours.hosts.get(neighbour.index)
        if planned is not None and neighbour.address not in _pods_own(planned):
            step = removal(neighbour, "on a pod's link by another hand, of an address that is not the pod's")
            yield replace(step, host=neighbour.index)
    there = {one.index for one in observed.links}
    there |= {one.index for one in observed.others if one.kind == "veth"}
    for route in observed.routes:
        if route.ends_here or not is_single(route.destination) or route.oif not in there:
            yield replace(removal(route, "no pod's, in the table of routes to the pods"), host=route.oif)
    names = {state.link.name for _, state in enis if state.link is not None}
    for rule in observed.other_rules:
        if rule.plain and (reason := _in_the_place_of_ours(rule, ours, names)):
            yield removal(rule, reason)


def left(ours: Ours, enis: Iterable[tuple[PreparedEni, EniState]]) -> Iterator[Difference]:
    """What is told: nobody of ours needs its place, and it may be wanted."""
    for prepared, state in enis:
        for one in _addresses(prepared, state):
            if not _harms(one, prepared, ours.pods):
                what = f"address {one.address}/{one.prefix_length} on link {prepared.name}"
                words = (
                    f"put there by another hand, on ENI {prepared.eni.mac} which is the pods'; no pod is "
                    f"harmed. `ip addr del {one.address}/{one.prefix_length} dev {prepared.name}` removes it"
                )
                yield Difference(ObjectKind.ADDRESS, what, words)
        others = (one for one in _neighbours(state) if one.address not in _gateways(prepared))
        for neighbour in others:
            words = (
                f"{neighbour.mac} put there by another hand, on ENI {prepared.eni.mac} which is the pods'; "
                f"no pod is harmed. `ip neigh del {neighbour.address} dev {prepared.name}` removes it"
            )
            yield Difference(
                ObjectKind.NEIGHBOUR, f"neighbour {neighbour.address} on link {prepared.name}", words
            )


def in_main(routes: Sequence[Route]) -> Iterator[Difference]:
    """What is told of routes to pods that somebody keeps in the main table: one sentence of them all."""
    if routes:
        made = ", ".join(str(number) for number in sorted({one.protocol for one in routes}))
        number = "1 route" if len(routes) == 1 else f"{len(routes)} routes"
        yield Difference(
            ObjectKind.ROUTE,
            "routes to pods in the main table",
            f"{number} of protocol {made} by another hand ({routes[0]}), put back after they were taken off. "
            "They are left: the pods' table is asked before the main one, so that no packet takes them. "
            "Felix writes such (80, or 3 as its DeviceRouteProtocol); where nobody needs them, stop it",
        )


def _on_eni(prepared: PreparedEni, state: EniState, ours: Ours) -> Iterator[Step]:
    for one in _addresses(prepared, state):
        if _harms(one, prepared, ours.pods):
            yield removal(one, "on an ENI by another hand: it took what is for the pods, or their vSwitch")
    for neighbour in _neighbours(state):
        if neighbour.address in _gateways(prepared):
            yield removal(
                neighbour, "the gateway's, written down by another hand: it was not asked for its MAC"
            )
    planned = frozenset(prepared.routes())
    for route in state.objects:
        # One of ours with another's settings is no other route: it is written anew, and must not go then.
        if isinstance(route, Route) and replace(route, besides=b"") not in planned:
            yield removal(route, "another hand's, in the table of an ENI's pods")


def _addresses(prepared: PreparedEni, state: EniState) -> list[Assigned]:
    planned = frozenset(prepared.addresses())
    there = (one for one in state.objects if isinstance(one, Assigned))
    return [one for one in there if one not in planned and not _is_kernels(one)]


def _neighbours(state: EniState) -> list[Neighbour]:
    return [one for one in state.objects if isinstance(one, Neighbour)]


def _gateways(prepared: PreparedEni) -> tuple[Address | None, ...]:
    return prepared.eni.gateway, prepared.eni.gateway_v6


def _pods_own(planned: Plan) -> frozenset[Address]:
    routed = (one.destination.network_address for one in planned.host_routes)
    return frozenset((*routed, *(one.address for one in planned.host_neighbours)))


def _harms(one: Assigned, prepared: PreparedEni, pods: frozenset[Address]) -> bool:
    network: Network = ip_interface(f"{one.address}/{one.prefix_length}").network
    return (
        one.address in prepared.host_addresses
        or one.prefix_length == one.address.max_prefixlen
        or any(a is not None and a in network for a in _gateways(prepared))
        or any(pod in network for pod in pods)
    )


def _is_kernels(one: Assigned) -> bool:
    return one.address.version == 6 and one.address.is_link_local


def _in_the_place_of_ours(rule: Rule, ours: Ours, enis: Collection[str]) -> str:
    """Why a rule cannot stay, "" if it can."""
    if rule.priority == layout.PRIORITY_TO_POD:
        if rule.iif in ours.links or (not rule.iif and rule.source is None and rule.destination is None):
            return "in the place of the rule that leads to the pods"
    elif rule.priority == layout.PRIORITY_FROM_ENI:
        if rule.iif in enis:
            return "in the place of the rule that ends what comes for no pod"
    elif rule.priority == layout.PRIORITY_FROM_POD and not rule.iif:
        source = rule.source
        if source is not None and is_single(source) and source.network_address in ours.pods:
            return "in the place of the rule that leads the pod to its ENI"
    return ""
