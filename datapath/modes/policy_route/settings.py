"""Every setting below /proc/sys/net that is ever written on a node, by what it is written for. Pure.

    whose        IPv4                               IPv6, if the node has it
    all          forwarding, no rp_filter           forwarding, not disabled
    default      the same                           the same: what the next link begins with
    home         forwarding, no rp_filter           forwarding, not disabled; accept_ra 2 where it was 1
    ENI          the same, accept_local             forwarding, not disabled, no DAD, no router's word
    host link    forwarding, and all of             forwarding, not disabled
                 ``HOST_LINK_SETTINGS``

``home`` is the node's own ENI. Of the reverse path filter the greater of ``all`` and the link's own counts: 2
in ``all`` makes the pods' strict one loose, and 1 refuses what the VPC brings by any ENI but the node's.
accept_ra is not given back: 2 means the same as 1 to a node that does not forward.
Links of others get the first three rows' values once, at the start, as upstream's node set-up does; what
their owners make of them later is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from datapath.modes.policy_route.plan import HOST_LINK_SETTINGS
from datapath.netlink.link import Devconf, Devconf6, Link, Settings, Settings6


@dataclass(frozen=True, slots=True)
class Wanted:
    ipv4: Settings
    ipv6: Settings6 = field(default_factory=dict)


_FORWARDS_6 = {Devconf6.FORWARDING: 1, Devconf6.DISABLE_IPV6: 0}

NODE = Wanted({Devconf.FORWARDING: 1, Devconf.RP_FILTER: 0}, _FORWARDS_6)
"""Of ``all``, ``default`` and home."""

ENI_SETTINGS = {Devconf.RP_FILTER: 0, Devconf.ACCEPT_LOCAL: 1}
"""What the VPC brings by an ENI need not be answered by it. ACCEPT_LOCAL: what the node itself sends to an
address that no pod has comes back by the ENI, with the node's own source. The kernel would drop it as
martian, and the sender never hear that there is nobody."""

ENI = Wanted(
    {Devconf.FORWARDING: 1, **ENI_SETTINGS},
    # Before the link is up: no duplicate detection, no router's word, as the cloud's API assigns both.
    {Devconf6.DISABLE_IPV6: 0, Devconf6.ACCEPT_DAD: 0, Devconf6.ACCEPT_RA: 0, Devconf6.FORWARDING: 1},
)

FORWARDS = {Devconf.FORWARDING: 1}

HOST_LINK = Wanted({**FORWARDS, **HOST_LINK_SETTINGS}, _FORWARDS_6)

FOR_EVERY_LINK = ("all", "default")


def named(family: str, link: str, wanted: Settings | Settings6) -> dict[str, str]:
    """``family``: ipv4 or ipv6. Values by the names that ``datapath.sysctl`` takes."""
    return {f"net/{family}/conf/{link}/{key.name.lower()}": str(value) for key, value in wanted.items()}


def otherwise(link: Link, wanted: Wanted, *, ipv6: bool) -> Mapping[str, str]:
    """What somebody has set otherwise on a link, by name, with the value that it should have."""
    right = {**named("ipv4", link.name, wanted.ipv4), **named("ipv6", link.name, wanted.ipv6)}
    found = link.otherwise(wanted.ipv4, wanted.ipv6 if ipv6 else None)
    return {name: right[name] for name in _of(link, found)}


def _of(link: Link, found: Mapping[str, int]) -> Iterator[str]:
    # In the order of writing: where IPv6 is off the kernel takes no other setting's effect.
    for name in sorted(found, key=lambda one: not one.endswith("/disable_ipv6")):
        yield name.format(link.name)


def accept_ra(link: Link) -> str:
    return f"net/ipv6/conf/{link.name}/accept_ra"


def hears_no_router(link: Link) -> bool:
    """accept_ra is 1, which a node that forwards takes for 0. 0 is the word of who listens in its place."""
    return link.otherwise({}, {Devconf6.ACCEPT_RA: 2}) == {"net/ipv6/conf/{}/accept_ra": 1}
