"""From an endpoint to what its pod is to have. Pure."""

from __future__ import annotations

from socket import AF_INET

from datapath.endpoint import Endpoint, Network
from datapath.netlink.address import Assigned
from datapath.netlink.route import MAIN, Path, Route
from datapath.netlink.wire import Address, everywhere, family_of, host_network
from datapath.pod.inside import PodObjects


def plan(endpoint: Endpoint, index: int) -> PodObjects:
    """``index``: of the slave in the pod. Raises ValueError for an endpoint without an address.

    The vSwitch's gateway is the way to everybody, also in the vSwitch itself: the VPC routes by address. IPv6
    needs a route to it, as in ``policy_route.node.PreparedEni.routes``.
    """
    addresses = endpoint.addresses()
    if not addresses:
        raise ValueError(f"endpoint {endpoint} has no address")
    device = endpoint.ifname
    return PodObjects(
        tuple(Assigned(one, one.max_prefixlen, index, device=device) for one in addresses),
        (),
        tuple(route for one in addresses for route in _routes(endpoint, index, family_of(one))),
    )


def proofs(endpoint: Endpoint) -> tuple[Path, ...]:
    """Packets that must leave by the slave."""
    families = [family_of(one) for one in endpoint.addresses()]
    return tuple(
        Path(gateway) for family in families if (gateway := gateway_of(endpoint, family)) is not None
    )


def gateway_of(endpoint: Endpoint, family: int) -> Address | None:
    return endpoint.eni.gateway if family == AF_INET else endpoint.eni.gateway_v6


def _routes(endpoint: Endpoint, index: int, family: int) -> list[Route]:
    gateway, device = gateway_of(endpoint, family), endpoint.ifname
    if gateway is None:
        return []
    wanted: list[Network] = [everywhere(family)] if endpoint.default_route else []
    wanted += [one for one in endpoint.extra_routes if family_of(one) == family]
    return [
        Route(host_network(gateway), index, device=device),
        *(Route(one, index, MAIN, gateway, device=device) for one in wanted),
    ]
