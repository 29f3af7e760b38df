"""What the brain hands to the datapath: plain values, in and out.

A mode (``datapath.modes``) turns an ``Endpoint`` into links, addresses, routes, rules and neighbours, and
back into nothing. Whatever a mode made it can find again from these values alone, so that a crash between
two netlink messages costs no more than running the same verb once more. An endpoint carries its mode and its
uplink: a node may hold endpoints of several modes, each checked and torn down in the one that made it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from datapath.pod.names import host_mac

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class EniLink:
    """One ENI as the datapath needs it: found by MAC, routed through its vSwitch's gateway."""

    mac: str
    gateway: IPv4Address
    gateway_v6: IPv6Address | None = None
    mtu: int = 1500


class Mode(StrEnum):
    """How an endpoint is connected: by a package of ``datapath.modes``. Ledgers have these words.

    Values below have a mode as plain text: a ledger may have a word of another release, and what such a mode
    has made is seen to by ``datapath.modes.unknown``.
    """

    POLICY_ROUTE = "policy_route"
    MACVLAN = "macvlan"


@dataclass(frozen=True, slots=True)
class SharedEni:
    """An ENI in the node's namespace that many endpoints have addresses of. ``id`` as for ``Uplink``."""

    id: str
    eni: EniLink


@dataclass(frozen=True, slots=True)
class OwnEni:
    """An ENI of one endpoint alone, which nobody else on the node sends or receives by."""

    id: str
    eni: EniLink


@dataclass(frozen=True, slots=True)
class TrunkMember:
    """A member ENI: what has the tag ``vlan`` (1 to 4094) on the trunk's device, which is ``eni``."""

    id: str
    eni: EniLink
    vlan: int


@dataclass(frozen=True, slots=True)
class NodeRoute:
    """The node's primary ENI, for addresses of the node's pod CIDR, which the VPC routes to the node."""

    id: str
    eni: EniLink


Uplink = SharedEni | OwnEni | TrunkMember | NodeRoute
"""Where an endpoint's packets leave the node. ``id`` is the ENI's as the cloud calls it, of a member its own:
several may share one device, so a device is no name for any. ``eni`` is the device that packets leave by."""


class EndpointKey(NamedTuple):
    """What the runtime calls one interface of one sandbox."""

    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.container_id[:13]}/{self.ifname}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One interface of one pod.

    ``container_id`` tells two sandboxes of one pod apart: the host link carries it as its alias.
    ``host_link`` is "" in a mode that has no link on the host.
    """

    host_link: str
    ifname: str
    container_id: str
    mode: str
    uplink: Uplink
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None = None
    mtu: int = 1500
    default_route: bool = True
    extra_routes: tuple[Network, ...] = ()
    netns: str = field(default="", compare=False)
    """Path of the pod's namespace as the runtime gave it, "" if it gave none. It may be another's by now."""
    fast: bool | None = field(default=True, compare=False)
    """Whether its packets may pass by the host's stack, where something lets them; None: as it is."""
    hooked: bool = field(default=True, compare=False)
    """Whether programs may be attached to its host link. False leaves the place to another plugin's qdisc."""

    @property
    def key(self) -> EndpointKey:
        return EndpointKey(self.container_id, self.ifname)

    @property
    def eni(self) -> EniLink:
        return self.uplink.eni

    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)

    @property
    def id(self) -> EndpointId:
        return EndpointId(self.key, self.mode, self.host_link, self.netns, self.eni.mac, self.addresses())

    def __str__(self) -> str:
        """For people: the host link where there is one, as ``ip link`` shows that."""
        return self.host_link or f"{self.ifname} of container {self.container_id[:13]}"


@dataclass(frozen=True, slots=True)
class EndpointId:
    """By what an endpoint is found in the kernel when its gateway, its ENI or its addresses are not known.

    ``host_link``, ``netns`` and ``eni_mac`` are "" where nobody knows them, and ``addresses`` empty.
    """

    key: EndpointKey
    mode: str
    host_link: str = ""
    netns: str = ""
    eni_mac: str = ""
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


class Presence(StrEnum):
    """The kernel's word on an endpoint. What cannot be looked at is UNKNOWN and never GONE."""

    THERE = "there"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sighting:
    """``why`` says what could not be looked at; "" where that is of no interest."""

    presence: Presence
    why: str = ""


class DeviceKind(StrEnum):
    """What an endpoint's device is, as seen from the host."""

    VETH = "veth"
    """A pair, one end of which is on the host."""
    MACVLAN = "macvlan"
    """A slave of the ENI in the pod. The host has no link of the endpoint's."""


@dataclass(frozen=True, slots=True)
class AppliedVeth:
    """What ``setup`` made: a pair, one end of which is on the host."""

    host_ifindex: int
    host_mac: str
    pod_mac: str
    eni_ifindex: int

    @property
    def kind(self) -> DeviceKind:
        return DeviceKind.VETH


@dataclass(frozen=True, slots=True)
class AppliedSlave:
    """What ``setup`` made: a slave of the ENI in the pod, and nothing on the host."""

    pod_mac: str
    eni_ifindex: int

    @property
    def kind(self) -> DeviceKind:
        return DeviceKind.MACVLAN


Applied = AppliedVeth | AppliedSlave
"""For the CNI result, the log, and whoever attaches programs: that takes a link of the host's."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """A live link of a pod as the kernel alone shows it, whoever made it and whether or not it is recorded.

    ``link`` is the host link, or the ENI of a pod that has none. ``container_id`` is the link's alias, "" if
    it has none. ``addresses`` are those that routes, neighbours or the fast path lead to it. For a link that
    has none of these left (it is down) they are all addresses that a rule serves and no other link carries:
    one of them is its own. ``enis`` are the MACs of the ENIs that rules send these addresses by.
    ``ifname`` is "" where only the MAC says which of a sandbox's interfaces it is, and nobody has asked it.
    """

    link: str
    mac: str
    container_id: str
    addresses: frozenset[IPv4Address | IPv6Address]
    enis: frozenset[str] = frozenset()
    mode: str = Mode.POLICY_ROUTE
    ifname: str = ""

    @property
    def id(self) -> EndpointId:
        """For ``take_down``."""
        return EndpointId(EndpointKey(self.container_id, self.ifname), self.mode, self.link)

    def is_of(self, container_id: str, ifname: str) -> bool:
        """It was made for this interface of this sandbox.

        A host link's MAC is no other sandbox's, whatever somebody has made of its alias.
        """
        if self.ifname:
            return (self.container_id, self.ifname) == (container_id, ifname)
        return self.mac == host_mac(container_id, ifname)
