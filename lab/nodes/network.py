"""How the lab's own hosts use their port on the fabric: nodes as ECS sets them up, cloud and outside by hand.

Reached through pyroute2 and not through the product's netlink code: the lab is the witness of that code.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from pyroute2 import IPRoute

from datapath import namespace
from lab.spec import GATEWAY_MAC

Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address

_IFA_F_NODAD = 0x02
_NUD_PERMANENT = 0x80
FAR_GATEWAYS: tuple[Address, ...] = (IPv4Address("169.254.0.1"), IPv6Address("fe80::fdff"))
"""Next hops of a host outside every vSwitch: never asked for, their MAC is set by hand."""


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """What one host does with its device. ``gateways`` has at most one address per family."""

    device: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]
    pinned: bool = False
    """The gateways are on no subnet: their neighbour entries are made by hand."""


_DEFAULTS = {
    "ipv4/conf/all/forwarding": "0",
    "ipv4/conf/all/rp_filter": "2",
    "ipv4/conf/default/rp_filter": "2",
    "ipv4/conf/all/accept_local": "0",
    "ipv6/conf/all/forwarding": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
}
"""Those of a fresh Debian 12 instance, whatever the machine has set for itself: IPv4 ones are inherited."""


def set_defaults(netns: int) -> None:
    with namespace.entered(netns):
        for name, value in _DEFAULTS.items():
            _write(name, value)


def _write(name: str, value: str) -> None:
    path = Path("/proc/sys/net") / name
    if path.exists():
        path.write_text(value)


def configure(netns: int, host: HostNetwork) -> None:
    """Bring the device up with its addresses and default routes, usable at once. Twice is once."""
    with namespace.entered(netns):
        for name, value in (("accept_dad", "0"), ("accept_ra", "0")):
            _write(f"ipv6/conf/{host.device}/{name}", value)
        with IPRoute() as route:
            index = route.link_lookup(ifname=host.device)[0]
            route.link("set", index=index, state="up")
            for interface in host.addresses:
                _add_address(route, index, interface)
            if host.pinned:
                _pin(route, index, host.gateways)
            for gateway in host.gateways:
                _default_route(route, index, gateway)


def exists(netns: int, device: str) -> bool:
    with namespace.entered(netns), IPRoute() as route:
        return bool(route.link_lookup(ifname=device))


def _family(address: Address | Interface) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _add_address(route: IPRoute, index: int, interface: Interface) -> None:
    route.addr(
        "replace",
        index=index,
        family=_family(interface),
        address=str(interface.ip),
        prefixlen=interface.network.prefixlen,
        flags=_IFA_F_NODAD if interface.version == 6 else 0,
    )


def _pin(route: IPRoute, index: int, gateways: Iterable[Address]) -> None:
    for gateway in gateways:
        route.neigh(
            "replace",
            family=_family(gateway),
            dst=str(gateway),
            lladdr=GATEWAY_MAC,
            ifindex=index,
            state=_NUD_PERMANENT,
        )


def _default_route(route: IPRoute, index: int, gateway: Address) -> None:
    route.route(
        "replace",
        family=_family(gateway),
        dst="default",
        gateway=str(gateway),
        oif=index,
        flags=["onlink"],
    )
