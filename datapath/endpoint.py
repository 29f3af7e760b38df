"""What the brain hands to the datapath: plain values, in and out.

A mode (``datapath.modes``) turns an ``Endpoint`` into links, addresses, routes, rules and neighbours, and
back into nothing. Whatever a mode made it can find again from these values alone, so that a crash between
two netlink messages costs no more than running the same verb once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from datapath.pod.names import host_mac

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class EniLink:
    """One ENI as the datapath needs it: found by MAC, routed through its vSwitch's gateway."""

    mac: str
    gateway: IPv4Address
    gateway_v6: IPv6Address | None = None
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One interface of one pod.

    ``container_id`` tells two sandboxes of one pod apart: the host link carries it as its alias.
    """

    host_link: str
    ifname: str
    container_id: str
    eni: EniLink
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None = None
    mtu: int = 1500
    default_route: bool = True
    extra_routes: tuple[Network, ...] = ()
    fast: bool | None = field(default=True, compare=False)
    """Whether its packets may pass by the host's stack, where something lets them; None: as it is."""
    hooked: bool = field(default=True, compare=False)
    """Whether programs may be attached to its host link. False leaves the place to another plugin's qdisc."""

    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


@dataclass(frozen=True, slots=True)
class Applied:
    """What ``setup`` made, for the CNI result and the log."""

    host_ifindex: int
    host_mac: str
    pod_mac: str
    eni_ifindex: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that is not as planned: ``what`` names it, ``found`` says what is there instead."""

    what: str
    found: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """A live link of a pod as the kernel alone shows it, whoever made it and whether or not it is recorded.

    ``container_id`` is the link's alias, "" if it has none. ``addresses`` are those that routes, neighbours
    or the fast path lead to it. For a link that has none of these left (it is down) they are all addresses
    that a rule serves and no other link carries: one of them is its own. ``enis`` are the MACs of the ENIs
    that rules send these addresses by.
    """

    link: str
    mac: str
    container_id: str
    addresses: frozenset[IPv4Address | IPv6Address]
    enis: frozenset[str] = frozenset()

    def is_of(self, container_id: str, ifname: str) -> bool:
        """It was made for this interface of this sandbox: the MAC tells a sandbox's interfaces apart."""
        return self.container_id == container_id and self.mac == host_mac(container_id, ifname)


class Mode(Protocol):
    """A network mode: three verbs per endpoint, all idempotent, all safe from several threads.

    ``netns`` is an open file descriptor of the pod's network namespace; the caller owns it.
    Failures are ``datapath.errors.KernelError``s that name the object.
    """

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """Make it so and verify by reading back. On failure nothing of the endpoint is left.

        Raises ``datapath.errors.NameTaken`` if ``endpoint.ifname`` exists in the namespace and is not ours.
        """
        ...

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """Compare with the kernel; empty if all is as ``setup`` left it. ``netns`` None: host side only."""
        ...

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        """Remove all of it; succeeds for the absent. A host link that carries another container id stays."""
        ...
