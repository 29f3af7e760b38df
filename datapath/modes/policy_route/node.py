"""What a node and each of its ENIs need before the first pod: forwarding, one rule, a table per ENI.

Everything here is idempotent and changes only what differs. The caller has entered the node's namespace, as
the sysctls are those of the calling thread's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from socket import AF_INET, AF_INET6

from datapath import objects, sysctl
from datapath.endpoint import EniLink
from datapath.errors import KernelError
from datapath.modes.policy_route import layout, plan
from datapath.netlink import address, link, route, rule
from datapath.netlink.address import Assigned
from datapath.netlink.link import Devconf, Link
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Network, everywhere, family_of, host_network
from datapath.objects import Object
from datapath.pod.names import DOOMED_PREFIX, HOST_LINK_PREFIX

FAMILIES = (AF_INET, AF_INET6)
HOST_ROLES = (HOST_LINK_PREFIX, DOOMED_PREFIX, "ipvl_")
"""Names of links that belong to pods, whatever MAC they carry."""


@dataclass(frozen=True, slots=True)
class PreparedEni:
    """An ENI that was found and made ready: ``ifindex`` is what its table and rules are numbered by."""

    eni: EniLink
    ifindex: int
    name: str
    host_addresses: tuple[Address, ...]
    closed: tuple[Network, ...] = ()
    """Where no pod of the ENI may send to. What the node itself sends does not come to this table."""

    def addresses(self) -> tuple[Assigned, ...]:
        """The host's own, of the families that the ENI has a gateway for."""
        families = {AF_INET} if self.eni.gateway_v6 is None else {AF_INET, AF_INET6}
        return tuple(
            Assigned(one, one.max_prefixlen, self.ifindex, device=self.name)
            for one in self.host_addresses
            if family_of(one) in families
        )

    def routes(self) -> tuple[Route, ...]:
        """The table, in the order of writing.

        IPv6 gets a route to the gateway instead of "onlink": the kernel refuses that flag if the main table
        reaches the gateway by another link, and it does when two ENIs are in one vSwitch.
        """
        table, index, name = layout.eni_table(self.ifindex), self.ifindex, self.name
        gateway, gateway_v6 = self.eni.gateway, self.eni.gateway_v6
        default = Route(everywhere(AF_INET), index, table, gateway, onlink=True, device=name)
        nobody = (*layout.NOT_BEYOND_A_LINK, *self.closed)
        nowhere = tuple(Route(one, 0, table, unreachable=True) for one in nobody)
        if gateway_v6 is None:
            return (*nowhere, default)
        nowhere_v6 = tuple(Route(one, 0, table, unreachable=True) for one in layout.NOT_BEYOND_A_LINK_V6)
        to_gateway = Route(host_network(gateway_v6), index, table, device=name)
        default_v6 = Route(everywhere(AF_INET6), index, table, gateway_v6, device=name)
        return (*nowhere, *nowhere_v6, default, to_gateway, default_v6)

    def rules(self) -> tuple[Rule, ...]:
        """What ends here that comes in by the ENI for no pod."""
        families = (AF_INET,) if self.eni.gateway_v6 is None else (AF_INET, AF_INET6)
        return tuple(plan.no_pod_rule(family, self.name) for family in families)

    def objects(self) -> tuple[Object, ...]:
        return (*self.addresses(), *self.routes(), *self.rules())


@dataclass(frozen=True, slots=True)
class EniState:
    """What is there of a prepared ENI: ``link`` None if it is gone, or its index is another link's now."""

    link: Link | None
    objects: tuple[Object, ...]


def has_ipv6() -> bool:
    """Whether the kernel has IPv6: not if it was built or started (``ipv6.disable=1``) without."""
    return os.path.isdir(sysctl.path("net/ipv6/conf"))


def prepare(socket: Socket, host_addresses: Iterable[Address]) -> frozenset[int]:
    """Forwarding on, reverse path filter off, the rule towards the pods, for the families of the addresses.

    The filter stays on for pods' host links, each by itself: see ``plan.HOST_LINK_SETTINGS``.
    Returns the families; IPv4 is always one. Forwarding of IPv6 makes the kernel ignore router
    advertisements on links with accept_ra=1, as upstream's node setup does.
    """
    families = _families(host_addresses)
    _ensure_links("ipv4", {"forwarding": "1"})
    _ensure_links("ipv4", {"rp_filter": "0"}, leave_out=HOST_ROLES)
    if AF_INET6 in families:
        _ensure_links("ipv6", _FORWARDS_V6)
    socket.transact(
        *(rule.add(plan.pods_rule(family)) for family in sorted(families)),
        *map(address.add, plan.node_addresses()),
    )
    return families


def answers_by_link() -> bool:
    """Whether links need the gateway's address, as ARP is answered for a link's own addresses only.

    IPVS with ``strictARP`` has it so. Not where 127.0.0.0/8 is routed as well: that makes an address of scope
    host one to send from, and the node's probes would come from 169.254.1.1.
    """
    names = ("net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/route_localnet")
    return tuple(map(sysctl.read, names)) == ("1", "0")


def mend_settings(
    families: frozenset[int], *, enis: Iterable[str] = (), host_links: Iterable[str] = ()
) -> tuple[str, ...]:
    """What ``prepare`` and ``prepare_eni`` set and somebody has set otherwise: put right, and named.

    Of the reverse path filter the greater of ``all`` and the link's own counts: 2 there makes the pods'
    strict one loose, and 1 refuses what the VPC brings by any ENI but the node's. Forwarding is each link's
    own, and ``default`` is what the next pod's begins with.
    """
    changed: list[str] = []
    for name in ("all", "default"):
        changed += sysctl.ensure(_settings("ipv4", name, {"forwarding": "1", "rp_filter": "0"}))
        if AF_INET6 in families:
            changed += sysctl.ensure(_settings("ipv6", name, _FORWARDS_V6))
    for names, ipv4, ipv6 in ((enis, _ENI_V4, _ENI_V6), (host_links, {"forwarding": "1"}, _FORWARDS_V6)):
        for name in names:
            changed += _ensure_link("ipv4", name, ipv4)
            if AF_INET6 in families:
                changed += _ensure_link("ipv6", name, ipv6)
    return tuple(changed)


def prepare_eni(
    socket: Socket, eni: EniLink, host_addresses: tuple[Address, ...], *, closed: tuple[Network, ...] = ()
) -> PreparedEni:
    """Link up with its MTU, the host's addresses, and a table that leads to the gateway.

    ``closed`` as for ``PreparedEni``; what was closed before and is not any more is opened.
    Raises KernelError with ENODEV if no link has the MAC.
    """
    found = find_eni(socket, eni.mac)
    sysctl.ensure(_settings("ipv4", found.name, _ENI_V4))
    if eni.gateway_v6 is not None:
        sysctl.ensure(_settings("ipv6", found.name, _ENI_V6))
    if not found.up or found.mtu != eni.mtu or not found.has(ENI_SETTINGS):
        socket.one(link.change(found.index, up=True, mtu=eni.mtu, ipv4=ENI_SETTINGS))
    prepared = PreparedEni(eni, found.index, found.name, host_addresses, closed)
    present = look(socket, prepared).objects
    absent = objects.missing(prepared.objects(), present)
    opened = [
        one for one in present if isinstance(one, Route) and one.unreachable and one not in prepared.routes()
    ]
    socket.transact(*map(objects.delete, opened), *map(objects.add, absent))
    return prepared


def look(socket: Socket, prepared: PreparedEni) -> EniState:
    """What the kernel has of it now."""
    found = link.find(socket, prepared.ifindex)
    if found is None or found.mac != prepared.eni.mac.lower():
        return EniState(None, ())
    present: list[Object] = [*address.of_link(socket, found.index)]
    for family in FAMILIES:
        present.extend(route.list_table(socket, family, layout.eni_table(found.index)))
        present.extend(one for one in rule.list_all(socket, family) if one.iif == found.name)
    return EniState(found, tuple(present))


def find_eni(socket: Socket, mac: str) -> Link:
    """The link of an ENI. Raises KernelError with ENODEV if there is none."""
    found = look_for(socket, mac)
    if found is None:
        detail = "is the ENI attached, and not moved into a pod?"
        raise KernelError("find the link of an ENI", errno=errno.ENODEV, object=f"MAC {mac}", detail=detail)
    return found


def look_for(socket: Socket, mac: str) -> Link | None:
    wanted = mac.lower()
    return next((one for one in link.list_all(socket) if one.mac == wanted and _may_be_eni(one)), None)


def forget_eni(socket: Socket, ifindex: int, name: str) -> None:
    """Remove the table's routes and every rule of ours that leads to it or is about the link of this name.

    The name may be another device's next, so a rule about it must not stay. "": nobody knows it any more, and
    repair finds the rule.
    """
    table = layout.eni_table(ifindex)
    for family in FAMILIES:
        rules = [
            one
            for one in rule.list_all(socket, family)
            if (one.by_address and one.priority == layout.PRIORITY_FROM_POD and one.table == table)
            or (name and one == plan.no_pod_rule(family, name))
        ]
        routes = route.list_table(socket, family, table)
        # The default route leans on the route to its gateway, so the way of writing is taken backwards.
        socket.transact(*map(rule.delete, rules), *map(route.delete, reversed(routes)))


def _may_be_eni(found: Link) -> bool:
    return not found.stacked and not found.name.startswith(HOST_ROLES)


def _families(addresses: Iterable[Address]) -> frozenset[int]:
    return frozenset({AF_INET}) | {family_of(a) for a in addresses}


def _ensure_links(family: str, wanted: dict[str, str], *, leave_out: tuple[str, ...] = ()) -> None:
    """``default`` is what pods' links start with, so that no ADD needs to write any of these."""
    for name in ("all", "default"):
        sysctl.ensure(_settings(family, name, wanted))
    for name in sysctl.links(family):
        if leave_out and name.startswith(leave_out):
            continue
        _ensure_link(family, name, wanted)


def _ensure_link(family: str, name: str, wanted: dict[str, str]) -> tuple[str, ...]:
    try:
        return sysctl.ensure(_settings(family, name, wanted))
    except KernelError as exc:
        if exc.errno != errno.ENOENT:
            raise
        # The link was removed while its siblings were gone through, or its MTU is too small for IPv6.
        return ()


def _settings(family: str, link_name: str, wanted: dict[str, str]) -> dict[str, str]:
    return {f"net/{family}/conf/{link_name}/{key}": value for key, value in wanted.items()}


_FORWARDS_V6 = {"forwarding": "1", "disable_ipv6": "0"}
_ENI_V4 = {"forwarding": "1"}
ENI_SETTINGS = {Devconf.RP_FILTER: 0, Devconf.ACCEPT_LOCAL: 1}
"""What the VPC brings by an ENI need not be answered by it. ACCEPT_LOCAL: what the node itself sends to an
address that no pod has comes back by the ENI, with the node's own source. The kernel would drop it as
martian, and the sender never hear that there is nobody."""
_ENI_V6 = {"disable_ipv6": "0", "accept_dad": "0", "accept_ra": "0", "forwarding": "1"}
"""Before the link is up: no duplicate detection, no router's word, as the cloud's API assigns both."""
