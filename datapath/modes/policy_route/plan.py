"""From an endpoint to the objects that carry it. Pure: values in, values out, no kernel.

``plan`` says what must exist on the host and in the pod. The mode writes it, ``check`` and ``repair`` compare
it with what is there, so the three cannot disagree. Numbers are in ``layout``; the
pod's side follows upstream's PolicyRoute (pod address /32, link-local gateway that answers nothing, permanent
neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from socket import AF_INET

from datapath.endpoint import Endpoint
from datapath.modes.policy_route import layout
from datapath.netlink.address import SCOPE_HOST, SCOPE_LINK, Assigned
from datapath.netlink.link import LOOPBACK, Devconf
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Path, Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Address, everywhere, family_of, host_network
from datapath.pod.gateway import POD_GATEWAY, POD_GATEWAY_V6
from datapath.pod.inside import PodObjects

HOST_LINK_SETTINGS = {
    Devconf.RP_FILTER: 1,
    Devconf.ACCEPT_SOURCE_ROUTE: 0,
    Devconf.ACCEPT_REDIRECTS: 0,
    Devconf.PROXY_ARP: 0,
    Devconf.ARP_ACCEPT: 0,
    Devconf.DROP_GRATUITOUS_ARP: 1,
}
"""What a pod may not do to the node through its host link. The reverse path filter is strict: the only way
back to a pod's address is its own link. The kernel asks it about ARP as well, so that a sender who is
made up, or is another pod, makes no neighbour entry; a claim that nobody asked for makes none either."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is: the indices of its three links, and the MACs of its pair.

    ``own_gateway``: the node answers ARP for a link's own addresses only, so the link needs the gateway's.
    """

    host: int
    pod: int
    eni: int
    host_mac: str
    pod_mac: str
    own_gateway: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Objects in the order of writing: a route may need the address or the route before it."""

    host_addresses: tuple[Assigned, ...]
    host_routes: tuple[Route, ...]
    host_neighbours: tuple[Neighbour, ...]
    host_rules: tuple[Rule, ...]
    pod_addresses: tuple[Assigned, ...]
    pod_neighbours: tuple[Neighbour, ...]
    pod_routes: tuple[Route, ...]

    @property
    def inside(self) -> PodObjects:
        return PodObjects(self.pod_addresses, self.pod_neighbours, self.pod_routes)


@dataclass(frozen=True, slots=True)
class Proof:
    """A packet, and by which link the kernel must send it if all is as planned."""

    path: Path
    oif: int
    purpose: str


def plan(endpoint: Endpoint, place: Place) -> Plan:
    """Raises ValueError for an endpoint without an address."""
    addresses = endpoint.addresses()
    if not addresses:
        raise ValueError(f"endpoint {endpoint.host_link} of container {endpoint.container_id} has no address")
    name = endpoint.host_link
    return Plan(
        host_addresses=_host_addresses(endpoint, place),
        host_routes=tuple(
            Route(host_network(a), place.host, layout.TABLE_PODS, device=name) for a in addresses
        ),
        host_neighbours=tuple(Neighbour(a, place.pod_mac, place.host, device=name) for a in addresses),
        host_rules=tuple(source_rule(a, place.eni) for a in addresses),
        pod_addresses=tuple(
            Assigned(a, a.max_prefixlen, place.pod, device=endpoint.ifname) for a in addresses
        ),
        pod_neighbours=tuple(
            Neighbour(_gateway(family_of(a)), place.host_mac, place.pod, device=endpoint.ifname)
            for a in addresses
        ),
        pod_routes=_pod_routes(endpoint, place),
    )


def source_rule(address: Address, eni: int) -> Rule:
    """What leaves the pod goes by the table of its ENI."""
    family, table = family_of(address), layout.eni_table(eni)
    return Rule(family, layout.PRIORITY_FROM_POD, table, source=host_network(address))


def pods_rule(family: int) -> Rule:
    """What goes to any pod of the node is looked up among the pods first."""
    return Rule(family, layout.PRIORITY_TO_POD, layout.TABLE_PODS)


def node_addresses() -> tuple[Assigned, ...]:
    """The pods' gateway, for ARP. Of scope host, so that the node never sends from it."""
    return (Assigned(POD_GATEWAY, 32, LOOPBACK, SCOPE_HOST, device="lo"),)


def no_pod_rule(family: int, eni: str) -> Rule:
    """What came in by an ENI for nobody here goes nowhere."""
    return Rule(family, layout.PRIORITY_FROM_ENI, 0, iif=eni, unreachable=True)


def upstream_rule(address: Address) -> Rule:
    """Upstream's rule per pod; ahead of ours it would send the pod's packets out by the main table."""
    family = family_of(address)
    return Rule(family, layout.PRIORITY_TO_POD, MAIN, destination=host_network(address))


def upstream_route(address: Address, host: int, device: str) -> Route:
    return Route(host_network(address), host, MAIN, device=device)


def proofs(endpoint: Endpoint, place: Place) -> tuple[Proof, ...]:
    """Questions to the kernel whose answers show that the pod can be reached and leaves by its ENI."""
    found = []
    for address in endpoint.addresses():
        found.append(Proof(Path(address), place.host, "to the pod"))
        away = endpoint.eni.gateway if address.version == 4 else endpoint.eni.gateway_v6
        if away is not None:
            found.append(Proof(Path(away, address, place.host), place.eni, "from the pod to its gateway"))
    return tuple(found)


def _gateway(family: int) -> Address:
    return POD_GATEWAY if family == AF_INET else POD_GATEWAY_V6


def _families(endpoint: Endpoint) -> tuple[int, ...]:
    return tuple(family_of(address) for address in endpoint.addresses())


def _host_addresses(endpoint: Endpoint, place: Place) -> tuple[Assigned, ...]:
    """Extra routes make the gateway an address of the host's end, as upstream does; IPv6 always."""
    found = []
    if any(isinstance(extra, IPv4Network) for extra in endpoint.extra_routes):
        found.append(Assigned(POD_GATEWAY, 32, place.host, SCOPE_LINK, device=endpoint.host_link))
    elif place.own_gateway and endpoint.ipv4 is not None:
        found.append(Assigned(POD_GATEWAY, 32, place.host, SCOPE_HOST, device=endpoint.host_link))
    if endpoint.ipv6 is not None:
        gateway = POD_GATEWAY_V6
        found.append(Assigned(gateway, 128, place.host, SCOPE_LINK, device=endpoint.host_link))
    return tuple(found)


def _pod_routes(endpoint: Endpoint, place: Place) -> tuple[Route, ...]:
    routes = []
    device = endpoint.ifname
    if any(isinstance(extra, IPv4Network) for extra in endpoint.extra_routes):
        routes.append(Route(host_network(POD_GATEWAY), place.pod, device=device))
    wanted: list[IPv4Network | IPv6Network] = []
    if endpoint.default_route:
        wanted.extend(everywhere(family) for family in _families(endpoint))
    wanted.extend(extra for extra in endpoint.extra_routes if family_of(extra) in _families(endpoint))
    for destination in wanted:
        gateway = _gateway(family_of(destination))
        onlink = isinstance(gateway, IPv4Address)
        routes.append(Route(destination, place.pod, MAIN, gateway, onlink=onlink, device=device))
    return tuple(routes)
