"""Policy routing rules: which table a packet is looked up in.

Source: linux/fib_rules.h; struct fib_rule_hdr is family, destination length, source length, TOS, table, two
reserved bytes, action, flags (u32).
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from socket import AF_INET6

from datapath.netlink import wire
from datapath.netlink.memory import Listing
from datapath.netlink.route import PROTOCOL
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Kind, Message, Network, Request

_FIB_RULE_HDR = struct.Struct("=BBBBBBBBI")
FRA_DST = 1
FRA_SRC = 2
FRA_IIFNAME = 3
FRA_PRIORITY = 6
FRA_SUPPRESS_IFGROUP = 13
FRA_SUPPRESS_PREFIXLEN = 14
FRA_TABLE = 15
FRA_PAD = 18
FRA_PROTOCOL = 21
FR_ACT_TO_TBL = 1
FR_ACT_UNREACHABLE = 7
FIB_RULE_INVERT = 2
_NOTHING = b"\xff\xff\xff\xff"
_UNDERSTOOD = frozenset({FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_PAD, FRA_PROTOCOL})
_SUPPRESSORS = frozenset({FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN})

_ACTIONS = frozenset({FR_ACT_TO_TBL, FR_ACT_UNREACHABLE})

_THERE = frozenset({errno.EEXIST})
_ABSENT = frozenset({errno.ENOENT, errno.ESRCH, errno.EAFNOSUPPORT})
"""The last one: the kernel has no such family, so it has no rule of it (IPv6 with ``ipv6.disable=1``)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Packets ``source`` -> ``destination`` (None: any) are looked up in ``table``.

    ``iif``: only those that come in by the link of that name, which need not be there. ``unreachable``:
    they go nowhere, and their sender is told; ``table`` is 0 then. ``plain`` is False if the rule selects by
    more than this (a mark, a port), does something else again, or was written with host bits (192.0.2.7/24),
    which the kernel keeps and compares: such a rule is somebody else's, and these values would not remove it.
    """

    family: int
    priority: int
    table: int
    source: Network | None = None
    destination: Network | None = None
    plain: bool = True
    iif: str = ""
    unreachable: bool = False

    @property
    def by_address(self) -> bool:
        """It looks up a table, and chooses its packets by nothing but their addresses."""
        return self.plain and not self.iif and not self.unreachable

    def __str__(self) -> str:
        to = f" to {self.destination}" if self.destination is not None else ""
        iif = f" iif {self.iif}" if self.iif else ""
        action = "unreachable" if self.unreachable else f"lookup {self.table}"
        version = " (IPv6)" if self.family == AF_INET6 else ""
        return f"{self.priority}: from {self.source or 'all'}{to}{iif} {action}{version}"


def add(rule: Rule) -> Request:
    """Present already is fine; without EXCL the kernel would keep both."""
    body = _body(rule) + wire.attribute(FRA_PROTOCOL, bytes([PROTOCOL]))
    return Request(Kind.NEWRULE, wire.CREATE | wire.EXCL, body, "add rule", rule, _THERE)


def delete(rule: Rule) -> Request:
    """The first rule that matches in all that ``rule`` says, whoever made it; done if there is none."""
    return Request(Kind.DELRULE, 0, _body(rule), "delete rule", rule, _ABSENT)


def decode(message: Message) -> Rule:
    family, to_bits, from_bits, tos, table, _, _, action, flags = _FIB_RULE_HDR.unpack_from(message.body)
    found = wire.attributes(message.body, _FIB_RULE_HDR.size)
    other = {k for k in found.keys() - _UNDERSTOOD if not (k in _SUPPRESSORS and found[k] == _NOTHING)}
    source = wire.network(found[FRA_SRC], from_bits) if FRA_SRC in found else None
    destination = wire.network(found[FRA_DST], to_bits) if FRA_DST in found else None
    exact = _is_exact(source, found.get(FRA_SRC)) and _is_exact(destination, found.get(FRA_DST))
    return Rule(
        family=family,
        priority=wire.u32(found[FRA_PRIORITY]) if FRA_PRIORITY in found else 0,
        table=wire.u32(found[FRA_TABLE]) if FRA_TABLE in found else table,
        source=source,
        destination=destination,
        plain=action in _ACTIONS and exact and not other and not tos and not flags & FIB_RULE_INVERT,
        iif=wire.text(found.get(FRA_IIFNAME, b"")),
        unreachable=action == FR_ACT_UNREACHABLE,
    )


def _is_exact(network: Network | None, told: bytes | None) -> bool:
    return network is None or network.network_address.packed == told


def list_all(socket: Socket, family: int) -> list[Rule]:
    """In the order in which the kernel asks them; none of a family that it has not got."""
    return listing(family).ask(socket)


def listing(family: int) -> Listing[Rule]:
    body = _FIB_RULE_HDR.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    absent = frozenset({errno.EAFNOSUPPORT})
    request = Request(Kind.GETRULE, wire.DUMP, body, "list rules", "all", absent)
    return Listing(request, decode, lambda one: one.kind == Kind.NEWRULE)


def _body(rule: Rule) -> bytes:
    to_bits = rule.destination.prefixlen if rule.destination is not None else 0
    from_bits = rule.source.prefixlen if rule.source is not None else 0
    table = rule.table if rule.table < 256 else 0
    action = FR_ACT_UNREACHABLE if rule.unreachable else FR_ACT_TO_TBL
    body = _FIB_RULE_HDR.pack(rule.family, to_bits, from_bits, 0, table, 0, 0, action, 0)
    if rule.destination is not None:
        body += wire.attribute(FRA_DST, rule.destination.network_address.packed)
    if rule.source is not None:
        body += wire.attribute(FRA_SRC, rule.source.network_address.packed)
    if rule.iif:
        body += wire.attribute_text(FRA_IIFNAME, rule.iif)
    body += wire.attribute_u32(FRA_PRIORITY, rule.priority)
    return body if rule.unreachable else body + wire.attribute_u32(FRA_TABLE, rule.table)
