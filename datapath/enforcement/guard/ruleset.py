"""What the guard's table holds. Pure: names of the ENIs in, chains and rules out.

    chain          packets                            what becomes of them
    prerouting     from a pod's host link             go to from_pod
    (before        from an ENI                        go to from_eni
    conntrack)
    from_pod       IPv6                               go to from_pod_6
                   from a link and an address that    accepted
                   were found right a short time ago
                   from an address whose route is     dropped
                   not the link they came by
                   else                               remembered for a short time
    from_pod_6     from a link-local address          go to link_local_6
                   from ::                            go to unspecified_6
                   else                               as in from_pod
    link_local_6   router advertisements, redirects   dropped
                   NS and RS, which make a neighbour  dropped beyond so many a minute by each link
                   entry for their sender
                   no neighbour discovery, no MLD     dropped
    unspecified_6  neither DAD nor RS nor MLD         dropped
    from_eni       for no pod, nor for the node       counted: rule 1024 of policy routing ends them,
                                                      with an error to their sender
    input          from a pod's host link             go to to_node
    to_node        to 127.0.0.0/8                     dropped
                   to the gateway, a TCP call         dropped; an answer to it is none
                   to a link-local address of IPv6,   dropped: the gateway's, or the host link's own
                   and not ICMPv6
                   another packet inside, by IPIP,    dropped: no lock looks at what the node would unpack
                   6in4, GRE, EtherIP or MPLS

The kernel asks its routes for 0.4 us in IPv6 and 0.1 in IPv4; to find what is remembered takes 0.04. An
element is a link and an address that is routed to it, so a pod fills nothing, and a link's number is not used
again. An IPv4 packet from 0.0.0.0 passes only to everybody (DHCP), by the kernel's own word.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache
from socket import AF_INET6

from datapath.enforcement.guard import expression as x
from datapath.enforcement.guard.expression import Expression, Fib, FibBy, Meta, Verdict
from datapath.pod.gateway import POD_GATEWAY
from datapath.pod.names import HOST_LINK_PREFIX

TABLE = "terway"
METER = "neighbours"
SEEN, SEEN_6 = "right_4", "right_6"
NEIGHBOURS_PER_MINUTE, NEIGHBOURS_BURST = 12, 12
"""A neighbour entry that nobody uses is collected after a minute or so: a pod holds two dozen at most."""

_RAW = -300
_IFNAME = 16
_ICMPV6 = 58
_TCP = 6
_TUNNELS = (4, 41, 47, 97, 137)
"""IPv4, IPv6, GRE, Ethernet and MPLS in IP, as ``protocol_is_tunnel`` of pod_egress has them."""
_SYN, _ACK = 0x02, 0x10
_RTN_UNICAST = 1
_MLD = (131, 132, 143)
_RS, _RA, _NS, _NA, _REDIRECT = 133, 134, 135, 136, 137


class Reason(StrEnum):
    """Names of counters: why a packet was dropped, or ended for want of a pod."""

    SOURCE = "source"
    LOOPBACK = "loopback"
    GATEWAY = "gateway"
    ROUTER = "router"
    NEIGHBOURS = "neighbours"
    TUNNEL = "tunnel"
    NO_POD = "no_pod"


MEANINGS = {
    Reason.SOURCE: "a pod sent from an address that is not its own",
    Reason.LOOPBACK: "a pod sent to 127.0.0.0/8 of the node",
    Reason.GATEWAY: "a pod called 169.254.1.1, its gateway, by TCP, or a link-local address of the node",
    Reason.ROUTER: "a pod sent a router advertisement or a redirect",
    Reason.NEIGHBOURS: "a pod asked with too many link-local senders a minute",
    Reason.TUNNEL: "a pod sent a packet inside another to the node, which might unpack it",
    Reason.NO_POD: "an ENI brought a packet to an address that no pod has; its sender is told unreachable",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """``comment`` says what it is for, and by its digest whether it is this very rule."""

    chain: str
    expressions: tuple[Expression, ...]
    comment: str


class Hook(IntEnum):
    PREROUTING = 0
    INPUT = 1


@dataclass(frozen=True, slots=True)
class Chain:
    """``hook`` None: packets come to it from other chains only."""

    name: str
    hook: Hook | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """What packets add to it goes ``timeout`` seconds later. ``key``: its type as the program nft has it."""

    name: str
    key: int
    key_length: int
    timeout: int


_IFINDEX, _IPADDR, _IP6ADDR, _TYPE_BITS = 20, 7, 8, 6
SETS = (
    Set(METER, _IFINDEX, 4, 120),
    Set(SEEN, _IFINDEX << _TYPE_BITS | _IPADDR, 8, 30),
    Set(SEEN_6, _IFINDEX << _TYPE_BITS | _IP6ADDR, 20, 30),
)
SET_SIZE = 8192
"""Elements: one of a link in the first, and one of each address of a pod in the others."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    chains: tuple[Chain, ...]
    rules: tuple[Rule, ...]


CHAINS = (
    Chain("unspecified_6"),
    Chain("link_local_6"),
    Chain("from_pod_6"),
    Chain("from_pod"),
    Chain("from_eni"),
    Chain("to_node"),
    Chain("prerouting", Hook.PREROUTING),
    Chain("input", Hook.INPUT),
)
PRIORITY = _RAW
_RIGHT = "found right a short time ago"


def ruleset(enis: Iterable[str]) -> Ruleset:
    """``enis``: names of the links of the ENIs that pods use."""
    return Ruleset(CHAINS, (*_of_every_node(), *map(_arrivals, sorted(enis))))


@cache
def _of_every_node() -> tuple[Rule, ...]:
    return (
        _rule("prerouting", "what a pod sends", *_by_pod(), _goto("from_pod")),
        *_from_pod(),
        *_from_pod_6(),
        *_link_local_6(),
        *_unspecified_6(),
        *_from_eni(),
        _rule("input", "what a pod sends to the node", *_by_pod(), _goto("to_node")),
        *_to_node(),
    )


def _arrivals(eni: str) -> Rule:
    """Behind the others in its chain."""
    device = eni.encode().ljust(_IFNAME, b"\0")
    which = (x.load_meta(Meta.IIFNAME), x.equal(device))
    return _rule("prerouting", f"what ENI {eni} brings", *which, _goto("from_eni"))


def _from_pod() -> list[Rule]:
    chain = "from_pod"
    return [
        _rule(chain, "IPv6", *_is_ipv6(), _goto("from_pod_6")),
        _rule(chain, _RIGHT, *_sender(), x.in_set(SEEN), x.verdict(Verdict.ACCEPT)),
        _drop(chain, Reason.SOURCE, *_not_its_own()),
        _rule(chain, "found right", *_sender(), x.add_to(SEEN)),
    ]


def _from_pod_6() -> list[Rule]:
    chain = "from_pod_6"
    link_local = (x.load_network(8, 2), x.mask(b"\xff\xc0"), x.equal(b"\xfe\x80"))
    return [
        _rule(chain, _RIGHT, *_sender_6(), x.in_set(SEEN_6), x.verdict(Verdict.ACCEPT)),
        _rule(chain, "from a link-local address", *link_local, _goto("link_local_6")),
        _rule(chain, "from no address", x.load_network(8, 16), x.equal(bytes(16)), _goto("unspecified_6")),
        _drop(chain, Reason.SOURCE, *_not_its_own()),
        _rule(chain, "found right", *_sender_6(), x.add_to(SEEN_6)),
    ]


def _to_node() -> list[Rule]:
    chain, ipv4 = "to_node", _is_ipv6(no=True)
    to_gateway = (x.load_network(16, 4), x.equal(POD_GATEWAY.packed))
    tcp = (x.load_meta(Meta.L4PROTO), x.equal(bytes([_TCP])))
    link_local = (x.load_network(24, 2), x.mask(b"\xff\xc0"), x.equal(b"\xfe\x80"))
    no_icmp6 = (x.load_meta(Meta.L4PROTO), x.differs(bytes([_ICMPV6])))
    call = (x.load_transport(13, 1), x.mask(bytes([_SYN | _ACK])), x.equal(bytes([_SYN])))
    return [
        _drop(chain, Reason.LOOPBACK, *ipv4, x.load_network(16, 1), x.equal(b"\x7f")),
        _drop(chain, Reason.GATEWAY, *ipv4, *to_gateway, *tcp, *call),
        _drop(chain, Reason.GATEWAY, *_is_ipv6(), *link_local, *no_icmp6),
        *(_drop(chain, Reason.TUNNEL, x.load_meta(Meta.L4PROTO), x.equal(bytes([one]))) for one in _TUNNELS),
    ]


def _link_local_6() -> list[Rule]:
    chain = "link_local_6"
    limit = x.over_limit(NEIGHBOURS_PER_MINUTE, NEIGHBOURS_BURST, meter=METER)
    made = [_drop(chain, Reason.ROUTER, *_icmp6(kind)) for kind in (_RA, _REDIRECT)]
    for kind in (_NS, _RS):
        by_link = x.load_meta(Meta.IIF)
        made.append(_drop(chain, Reason.NEIGHBOURS, *_icmp6(kind), by_link, limit))
    for kind in (_NS, _NA, _RS, *_MLD):
        made.append(_accept(chain, kind))
    return [*made, _drop(chain, Reason.SOURCE)]


def _unspecified_6() -> list[Rule]:
    chain = "unspecified_6"
    return [*(_accept(chain, kind) for kind in (_NS, _RS, *_MLD)), _drop(chain, Reason.SOURCE)]


def _from_eni() -> list[Rule]:
    chain = "from_eni"
    to_pod = (x.load_fib(Fib.OIFNAME, FibBy.DESTINATION), x.equal(HOST_LINK_PREFIX.encode()))
    to_others = (x.load_fib(Fib.TYPE, FibBy.DESTINATION), x.equal(_native(_RTN_UNICAST)))
    return [
        _rule(chain, "to a pod", *to_pod, x.verdict(Verdict.RETURN)),
        _rule(chain, MEANINGS[Reason.NO_POD], *to_others, x.count(Reason.NO_POD)),
    ]


def _is_ipv6(*, no: bool = False) -> tuple[Expression, ...]:
    compare = x.differs if no else x.equal
    return x.load_meta(Meta.NFPROTO), compare(bytes([AF_INET6]))


def _sender() -> tuple[Expression, ...]:
    """The link and the source address, as the key of a set."""
    return x.load_key(12, 4)


def _sender_6() -> tuple[Expression, ...]:
    return x.load_key(8, 16)


def _by_pod() -> tuple[Expression, ...]:
    return x.load_meta(Meta.IIFNAME), x.equal(HOST_LINK_PREFIX.encode())


def _not_its_own() -> tuple[Expression, ...]:
    """The way back to the source is not by the link that the packet came in by."""
    return x.load_fib(Fib.OIF, FibBy.SOURCE | FibBy.IIF), x.equal(bytes(4))


def _icmp6(kind: int) -> tuple[Expression, ...]:
    is_icmp = (x.load_meta(Meta.L4PROTO), x.equal(bytes([_ICMPV6])))
    return *is_icmp, x.load_transport(0, 1), x.equal(bytes([kind]))


def _native(value: int) -> bytes:
    """As the kernel keeps its own numbers in a register."""
    return value.to_bytes(4, sys.byteorder)


def _goto(chain: str) -> Expression:
    return x.verdict(Verdict.GOTO, chain)


def _accept(chain: str, kind: int) -> Rule:
    return _rule(chain, f"ICMPv6 type {kind}", *_icmp6(kind), x.verdict(Verdict.ACCEPT))


def _drop(chain: str, reason: Reason, *conditions: Expression) -> Rule:
    return _rule(chain, MEANINGS[reason], *conditions, x.count(reason), x.verdict(Verdict.DROP))


def _rule(chain: str, text: str, *expressions: Expression) -> Rule:
    digest = hashlib.sha1(b"".join(expressions), usedforsecurity=False).hexdigest()[:8]
    return Rule(chain, expressions, f"{text} [{digest}]")
