"""Compares an endpoint with the kernel, both ends, object by object, and by asking where packets would go."""

from __future__ import annotations

from datapath import objects
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint
from datapath.modes.policy_route import host_side, layout
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.plan import HOST_LINK_SETTINGS, Place, Plan, plan, pods_rule
from datapath.modes.policy_route.repair import not_shut_off
from datapath.netlink import address, link, neighbour, route, rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import family_of
from datapath.objects import ABSENT, Object
from datapath.pod import inside as pod_side
from datapath.pod import names


def check(
    socket: Socket, endpoint: Endpoint, netns: int | None, eni: int | None, *, own_gateway: bool
) -> tuple[Difference, ...]:
    """``eni`` is the link index of its ENI, None if that is gone; ``netns`` None leaves out the pod's end.

    ``own_gateway`` as for ``Place``.
    """
    host = link.find(socket, endpoint.host_link)
    if host is None:
        return (Difference(ObjectKind.LINK, f"link {endpoint.host_link}", ABSENT),)
    if not seen.owns(endpoint, host):
        owner = f"of container {host.alias}" if host.alias else "of nobody we know"
        return (Difference(ObjectKind.LINK, f"link {host.name} of container {endpoint.container_id}", owner),)
    if eni is None:
        return (Difference(ObjectKind.LINK, f"link of ENI {endpoint.eni.mac}", ABSENT),)
    found = [*pod_side.link_differences(host, endpoint.mtu)]
    if not host.has(HOST_LINK_SETTINGS):
        found.append(not_shut_off(host.name))
    inside = None if netns is None else pod_side.find(netns, endpoint.ifname)
    if netns is not None:
        if inside is None or not seen.paired(host, inside):
            found.append(Difference(ObjectKind.LINK, f"interface {endpoint.ifname} in the pod", ABSENT))
        else:
            found.extend(pod_side.link_differences(inside, endpoint.mtu))
    pod_mac = inside.mac if inside is not None else names.pod_mac(endpoint.container_id, endpoint.ifname)
    place = Place(host.index, host.lower, eni, host.mac, pod_mac, own_gateway)
    wanted = plan(endpoint, place)
    found.extend(_host_differences(socket, endpoint, wanted))
    if netns is not None and inside is not None:
        with Socket(netns) as pod_socket:
            found.extend(pod_side.differences(pod_socket, place.pod, wanted.inside))
    if not found:
        found.extend(host_side.misrouted(socket, endpoint, place))
    return tuple(found)


def _host_differences(socket: Socket, endpoint: Endpoint, wanted: Plan) -> tuple[Difference, ...]:
    families = sorted({family_of(one) for one in endpoint.addresses()})
    index = wanted.host_routes[0].oif
    present: list[Object] = [*address.of_link(socket, index), *neighbour.list_permanent(socket, index)]
    for family in families:
        present.extend(rule.list_all(socket, family))
        present.extend(route.list_table(socket, family, layout.TABLE_PODS))
    planned: tuple[Object, ...] = (
        *map(pods_rule, families),
        *wanted.host_addresses,
        *wanted.host_routes,
        *wanted.host_neighbours,
        *wanted.host_rules,
    )
    return objects.differences(planned, present)
