"""What the guard's table holds. Pure: names of the ENIs in, chains and rules out.

    chain          packets                            what becomes of them
    prerouting     from a pod's host link, before     go to from_pod
                   conntrack
    from_pod       IPv6                               go to from_pod_6
                   to 127.0.0.0/8                     dropped
                   from an address whose route is     dropped
                   not the link they came by
                   to the gateway, no ICMP            dropped
    from_pod_6     router advertisements, redirects   dropped
                   from a link-local address          go to link_local_6
                   from ::                            go to unspecified_6
                   from an address as above           dropped
    link_local_6   NS and RS, which make a neighbour  dropped beyond so many a minute by each link
                   entry for their sender
                   no neighbour discovery, no MLD     dropped
    unspecified_6  neither DAD nor RS nor MLD         dropped
    arrivals       from an ENI, after DNAT            go to from_eni
    from_eni       for no pod, nor for the node       counted: rule 1024 of ``datapath.layout`` ends them,
                                                      with an error to their sender

An IPv4 packet from 0.0.0.0 passes only to everybody (DHCP), by the kernel's own word.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from socket import AF_INET6

from datapath import layout
from datapath.endpoint import HOST_LINK_PREFIX
from datapath.guard import expression as x
from datapath.guard.expression import Expression, Fib, FibBy, Meta, Verdict

TABLE = "terway"
METER = "neighbours"
METER_SIZE = 4096
METER_TIMEOUT = 120
"""Seconds an element outlives its last packet; one element per link, so that a pod can fill nothing."""
NEIGHBOURS_PER_MINUTE, NEIGHBOURS_BURST = 12, 12
"""A neighbour entry that nobody uses is collected after a minute or so: a pod holds two dozen at most."""

_RAW = -300
_AFTER_DNAT = -90
_IFNAME = 16
_ICMPV6 = 58
_ICMP = 1
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
    NO_POD = "no_pod"


MEANINGS = {
    Reason.SOURCE: "a pod sent from an address that is not its own",
    Reason.LOOPBACK: "a pod sent to 127.0.0.0/8 of the node",
    Reason.GATEWAY: "a pod sent something else than ICMP to its gateway's address 169.254.1.1",
    Reason.ROUTER: "a pod sent a router advertisement or a redirect",
    Reason.NEIGHBOURS: "a pod asked with too many link-local senders a minute",
    Reason.NO_POD: "an ENI brought a packet to an address that no pod has; its sender is told unreachable",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """``comment`` says what it is for, and by its digest whether it is this very rule."""

    chain: str
    expressions: tuple[Expression, ...]
    comment: str


@dataclass(frozen=True, slots=True)
class Chain:
    """``priority`` None: packets come to it from others only. Else at prerouting."""

    name: str
    priority: int | None = None


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
    Chain("prerouting", _RAW),
    Chain("arrivals", _AFTER_DNAT),
)


def ruleset(enis: Iterable[str]) -> Ruleset:
    """``enis``: names of the links of the ENIs that pods use."""
    made = [
        _rule("prerouting", "what a pod sends", *_by_pod(), _goto("from_pod")),
        *_from_pod(),
        *_from_pod_6(),
        *_link_local_6(),
        *_unspecified_6(),
    ]
    for name in sorted(enis):
        device = name.encode().ljust(_IFNAME, b"\0")
        which = (x.load_meta(Meta.IIFNAME), x.equal(device))
        made.append(_rule("arrivals", f"what ENI {name} brings", *which, _goto("from_eni")))
    made.extend(_from_eni())
    return Ruleset(CHAINS, tuple(made))


def _from_pod() -> list[Rule]:
    chain = "from_pod"
    return [
        _rule(chain, "IPv6", x.load_meta(Meta.NFPROTO), x.equal(bytes([AF_INET6])), _goto("from_pod_6")),
        _drop(chain, Reason.LOOPBACK, x.load_network(16, 1), x.equal(b"\x7f")),
        _drop(chain, Reason.SOURCE, *_not_its_own()),
        _drop(
            chain,
            Reason.GATEWAY,
            x.load_network(16, 4),
            x.equal(layout.POD_GATEWAY.packed),
            x.load_meta(Meta.L4PROTO),
            x.differs(bytes([_ICMP])),
        ),
    ]


def _from_pod_6() -> list[Rule]:
    chain = "from_pod_6"
    link_local = (x.load_network(8, 2), x.mask(b"\xff\xc0"), x.equal(b"\xfe\x80"))
    return [
        _drop(chain, Reason.ROUTER, *_icmp6(_RA)),
        _drop(chain, Reason.ROUTER, *_icmp6(_REDIRECT)),
        _rule(chain, "from a link-local address", *link_local, _goto("link_local_6")),
        _rule(chain, "from no address", x.load_network(8, 16), x.equal(bytes(16)), _goto("unspecified_6")),
        _drop(chain, Reason.SOURCE, *_not_its_own()),
    ]


def _link_local_6() -> list[Rule]:
    chain = "link_local_6"
    limit = x.over_limit(NEIGHBOURS_PER_MINUTE, NEIGHBOURS_BURST, meter=METER)
    made = []
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
