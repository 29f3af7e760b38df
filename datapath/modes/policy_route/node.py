"""What a node and each of its ENIs need before the first pod: forwarding, one rule, a table per ENI.

Everything here is idempotent and changes only what differs. The caller has entered the node's namespace, as
the sysctls are those of the calling thread's.
"""

from __future__ import annotations

import errno
from collections.abc import Container
from dataclasses import dataclass
from socket import AF_INET, AF_INET6

from datapath import objects, sysctl
from datapath.endpoint import EniLink
from datapath.errors import KernelError
from datapath.modes.policy_route import layout, plan, settings
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


def prepare(socket: Socket, families: frozenset[int], *, home: str = "") -> None:
    """Forwarding on, reverse path filter off, the rule towards the pods. ``home``: the node's own ENI's link.

    The filter stays on for pods' host links, each by itself: see ``plan.HOST_LINK_SETTINGS``.
    """
    ipv6 = AF_INET6 in families
    if ipv6 and home:
        # First: a router's default route goes when forwarding begins, unless this says that it stays.
        keep_router(home)
    for name in settings.FOR_EVERY_LINK:
        mend_settings(name, settings.NODE, ipv6=ipv6)
    for name in sysctl.links("ipv4"):
        wanted = {Devconf.FORWARDING: 1} if name.startswith(HOST_ROLES) else settings.NODE.ipv4
        mend_settings(name, settings.Wanted(wanted), ipv6=False)
    for name in sysctl.links("ipv6") if ipv6 else ():
        mend_settings(name, settings.Wanted({}, settings.NODE.ipv6), ipv6=True)
    socket.transact(
        *(rule.add(plan.pods_rule(family)) for family in sorted(families)),
        *map(address.add, plan.node_addresses()),
    )


def keep_router(home: str) -> tuple[str, ...]:
    """A node that forwards hears no router, unless accept_ra is 2. 0 stays: somebody else listens for it."""
    name = f"net/ipv6/conf/{home}/accept_ra"
    try:
        if sysctl.read(name) != "1":
            return ()
        sysctl.write(name, "2")
    except KernelError as exc:
        if exc.errno != errno.ENOENT:  # no IPv6 on this link
            raise
        return ()
    return (name,)


def own_addresses(socket: Socket, ifindex: int) -> tuple[Address, ...]:
    """Global addresses of a link, as the kernel has them."""
    return tuple(one.address for one in address.of_link(socket, ifindex) if not one.address.is_link_local)


def answers_by_link() -> bool:
    """Whether links need the gateway's address, as ARP is answered for a link's own addresses only.

    IPVS with ``strictARP`` has it so. Not where 127.0.0.0/8 is routed as well: that makes an address of scope
    host one to send from, and the node's probes would come from 169.254.1.1.
    """
    names = ("net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/route_localnet")
    return tuple(map(sysctl.read, names)) == ("1", "0")


def mend_settings(link_name: str, wanted: settings.Wanted, *, ipv6: bool) -> tuple[str, ...]:
    """Write what differs for a link, ``all`` or ``default``, and name it."""
    return sysctl.ensure(named(link_name, wanted, ipv6=ipv6), absent_is_fine=True)


def named(link_name: str, wanted: settings.Wanted, *, ipv6: bool) -> dict[str, str]:
    """Values by the names that ``datapath.sysctl`` takes, in the order of writing."""
    ipv4 = settings.named("ipv4", link_name, wanted.ipv4)
    return ipv4 | settings.named("ipv6", link_name, wanted.ipv6) if ipv6 else ipv4


def prepare_eni(
    socket: Socket,
    eni: EniLink,
    host_addresses: tuple[Address, ...],
    *,
    closed: tuple[Network, ...] = (),
    apart: Container[int] = (),
) -> PreparedEni:
    """Link up with its MTU, the host's addresses, and a table that leads to the gateway.

    ``closed`` as for ``PreparedEni``; what was closed before and is not any more is opened. ``apart`` as for
    ``may_be_eni``.
    Raises KernelError with ENODEV if no link has the MAC.
    """
    found = find_eni(socket, eni.mac, apart)
    mend_settings(found.name, settings.ENI, ipv6=eni.gateway_v6 is not None)
    if not found.up or found.mtu != eni.mtu or not found.has(settings.ENI_SETTINGS):
        socket.one(link.change(found.index, up=True, mtu=eni.mtu, ipv4=settings.ENI_SETTINGS))
    prepared = PreparedEni(eni, found.index, found.name, host_addresses, closed)
    present = look(socket, prepared).objects
    absent = objects.missing(prepared.objects(), present)
    wanted = prepared.routes()
    opened = [one for one in present if isinstance(one, Route) and one.unreachable and one not in wanted]
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


def find_eni(socket: Socket, mac: str, apart: Container[int] = ()) -> Link:
    """The link of an ENI. Raises KernelError with ENODEV if there is none."""
    found = look_for(socket, mac, apart)
    if found is None:
        detail = "is the ENI attached, and not moved into a pod?"
        raise KernelError("find the link of an ENI", errno=errno.ENODEV, object=f"MAC {mac}", detail=detail)
    return found


def look_for(socket: Socket, mac: str, apart: Container[int] = ()) -> Link | None:
    wanted = mac.lower()
    links = link.list_all(socket)
    return next((one for one in links if one.mac == wanted and may_be_eni(one, apart)), None)


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


def may_be_eni(found: Link, apart: Container[int] = ()) -> bool:
    """``apart``: links whose MAC proves nothing, as for ``ModeContext``."""
    return not found.stacked and not found.name.startswith(HOST_ROLES) and found.index not in apart
