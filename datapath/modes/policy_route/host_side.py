"""The node's end of a pair: written in one batch together with the questions that prove it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from datapath import objects
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint
from datapath.errors import KernelError, UplinkUnusable
from datapath.modes.policy_route import layout
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.node import FAMILIES
from datapath.modes.policy_route.plan import (
    HOST_LINK_SETTINGS,
    Place,
    Plan,
    Proof,
    proofs,
    source_rule,
    upstream_route,
    upstream_rule,
)
from datapath.netlink import link, route, rule
from datapath.netlink.route import MAIN, Path
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Message, Request, host_network
from datapath.objects import Object
from datapath.pod.names import HOST_LINK_PREFIX

_ASTRAY = (
    "rules or routes of this node were changed by another hand; what terwayd has written is put back within "
    "seconds, and `ip rule` lists what is asked before it"
)


def write(socket: Socket, endpoint: Endpoint, place: Place, wanted: Plan) -> None:
    """Link up and named after its container, all objects, upstream's of the same pod removed; then prove it.

    Rules that lead the pod elsewhere are looked for only if the proof fails, as listing rules takes longer
    than all the rest. Raises KernelError if the kernel still would route the pod's packets otherwise;
    UplinkUnusable if it is those alone that leave by the ENI, which a pod has no part in.
    """
    questions = proofs(endpoint, place)
    answers = socket.transact(
        link.change(place.host, up=True, alias=endpoint.container_id, ipv4=HOST_LINK_SETTINGS),
        *map(objects.add, wanted.host_addresses),
        *map(objects.add, wanted.host_routes),
        *map(objects.add, wanted.host_neighbours),
        *map(objects.add, wanted.host_rules),
        *_upstream_removals(endpoint, place),
        *map(_ask, questions),
    )
    wrong = _wrong(questions, answers[-len(questions) :])
    if wrong:
        _remove_conflicts(socket, endpoint, wanted)
        wrong = _wrong(questions, socket.transact(*map(_ask, questions)))
    if wrong:
        by_eni_alone = all(question.oif == place.eni for question in wrong)
        error = UplinkUnusable if by_eni_alone else KernelError
        hint = f"is ENI {endpoint.eni.mac} still attached, and was it prepared?" if by_eni_alone else _ASTRAY
        detail = f"{'; '.join(wrong.values())}; {hint}"
        raise error("prove the pod's routing", object=endpoint.host_link, detail=detail)


def misrouted(socket: Socket, endpoint: Endpoint, place: Place) -> list[Difference]:
    """Packets that the kernel would not send as planned."""
    questions = proofs(endpoint, place)
    wrong = _wrong(questions, socket.transact(*map(_ask, questions)))
    return [Difference(ObjectKind.ROUTING, f"routing of {endpoint.host_link}", one) for one in wrong.values()]


def unwind(socket: Socket, endpoint: Endpoint, place: Place) -> None:
    """Remove what a failed ``write`` may have made. Here the link is waited for: a retry finds nothing."""
    removals = rule_removals(socket, endpoint.addresses(), place.eni)
    socket.transact(link.delete(place.host), *removals)


def take_back(socket: Socket, wanted: Plan, before: Collection[Object]) -> None:
    """Of a pair that stood before the failed ``write``: only the objects that did not."""
    planned: list[Object] = [*wanted.host_rules, *wanted.host_neighbours, *wanted.host_routes]
    planned += wanted.host_addresses
    socket.transact(*(objects.delete(one) for one in planned if one not in before))


def rule_removals(socket: Socket, addresses: Iterable[Address], eni: int | None) -> list[Request]:
    """For the rules of pods with these addresses. Without ``eni`` they are looked for, which costs a list."""
    wanted = tuple(addresses)
    removals = [rule.delete(upstream_rule(one)) for one in wanted]
    if eni is not None:
        return [*removals, *(rule.delete(source_rule(one, eni)) for one in wanted)]
    sources = {host_network(one) for one in wanted}
    return [*removals, *(rule.delete(one) for one in _source_rules(socket) if one.source in sources)]


def carrying(socket: Socket, addresses: Iterable[Address]) -> dict[Address, int]:
    """Which of the addresses some link of the node carries for a pod now, with its index."""
    wanted = tuple(addresses)
    return taken(socket, wanted, socket.transact(*(route.lookup(Path(one)) for one in wanted)), free=())


def taken(
    socket: Socket, addresses: Iterable[Address], answers: Iterable[Message | None], *, free: Collection[int]
) -> dict[Address, int]:
    """Addresses that a pod's link carries, with its index, by the answers to a look-up of each.

    Links in ``free`` do not count. Upstream's routes are in the main table and lead straight to the pod. What
    nobody has goes by a gateway, mostly, and that spares an ADD the question whose link it is.
    """
    found = {}
    for one, answer in zip(addresses, answers, strict=True):
        way = route.way(answer)
        if way is None or way.oif in free:
            continue
        if way.table == layout.TABLE_PODS or (
            way.table == MAIN and way.direct and _is_upstreams(socket, way.oif)
        ):
            found[one] = way.oif
    return found


def _is_upstreams(socket: Socket, index: int) -> bool:
    """A pod's link that has no alias. Ours has one, and by it what Felix is late to remove is no address."""
    found = link.find(socket, index)
    return found is not None and found.name.startswith(HOST_LINK_PREFIX) and not found.alias


def _upstream_removals(endpoint: Endpoint, place: Place) -> list[Request]:
    rules = [rule.delete(upstream_rule(one)) for one in endpoint.addresses()]
    name = endpoint.host_link
    return rules + [route.delete(upstream_route(one, place.host, name)) for one in endpoint.addresses()]


def _ask(question: Proof) -> Request:
    return route.lookup(question.path)


def _wrong(questions: Sequence[Proof], answers: Sequence[Message | None]) -> dict[Proof, str]:
    """In words, the answers that are not as planned."""
    wrong = {}
    for question, answer in zip(questions, answers, strict=True):
        way = route.way(answer)
        if way is None or way.oif != question.oif:
            instead = "nowhere" if way is None else f"by link {way.oif} of table {way.table}"
            wrong[question] = f"a packet {question.path} goes {instead}, not by link {question.oif}"
    return wrong


def _remove_conflicts(socket: Socket, endpoint: Endpoint, wanted: Plan) -> None:
    """Rules of earlier owners of the addresses: to another ENI's table, or upstream's."""
    mine = {host_network(one) for one in endpoint.addresses()}
    found = [one for one in _source_rules(socket) if one.source in mine and one not in wanted.host_rules]
    socket.transact(*map(rule.delete, found))


def _source_rules(socket: Socket) -> list[rule.Rule]:
    listed = (one for family in FAMILIES for one in rule.list_all(socket, family))
    return [one for one in listed if seen.is_source_rule(one)]
