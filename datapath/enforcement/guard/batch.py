"""Messages of nf_tables that change something, to be sent as one transaction. Pure.

Source: linux/netfilter/nfnetlink.h, nf_tables.h. ``datapath.firewall.nft`` reads what these write.
"""

from __future__ import annotations

import errno
import struct

from datapath.enforcement.guard.expression import u32
from datapath.enforcement.guard.ruleset import PRIORITY, SET_SIZE, TABLE, Chain, Rule, Set
from datapath.firewall.nft import Nft
from datapath.netlink import wire
from datapath.netlink.wire import Request

SUBSYSTEM = 10
_BEGIN, _END = 0x10, 0x11
_HEAD = struct.Struct("=BBH")
INET = 1
_ACCEPT = 1
COUNTER_OBJECT = 1
ANONYMOUS = 1
"""NFT_SET_ANONYMOUS, of a set's flags."""
_SET_TIMEOUT, _SET_EVAL = 0x10, 0x20
_APPEND = 0x800


def framed(*requests: Request) -> tuple[Request, ...]:
    """With what opens and closes a transaction: all of it is done, or nothing."""
    head = struct.pack(">BBH", 0, 0, SUBSYSTEM)
    begin, end = (Request(kind, 0, head, "change", "nf_tables") for kind in (_BEGIN, _END))
    return (begin, *requests, end)


def new_table() -> Request:
    """Present already is fine. One that somebody put to sleep is woken."""
    flags = wire.attribute(2, u32(0))
    return _request(Nft.NEWTABLE, wire.CREATE, wire.attribute_text(1, TABLE) + flags, "add table", TABLE)


def delete_table() -> Request:
    absent = frozenset({errno.ENOENT})
    return _request(Nft.DELTABLE, 0, wire.attribute_text(1, TABLE), "delete table", TABLE, absent)


def flush_rules() -> Request:
    """Of every chain of the table. Counters stay."""
    return _request(Nft.DELRULE, 0, wire.attribute_text(1, TABLE), "delete rules of table", TABLE)


def new_counter(name: str) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(2, name)
    body += wire.attribute(3, u32(COUNTER_OBJECT)) + wire.nested(4)
    return _request(Nft.NEWOBJ, wire.CREATE, body, "add counter", name)


def new_set(made: Set, number: int) -> Request:
    """``number``: another one for each set of a transaction."""
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(2, made.name)
    body += wire.attribute(3, u32(_SET_TIMEOUT | _SET_EVAL))
    body += wire.attribute(4, u32(made.key)) + wire.attribute(5, u32(made.key_length))
    body += wire.nested(9, wire.attribute(1, u32(SET_SIZE)))
    body += wire.attribute(10, u32(number)) + wire.attribute(11, struct.pack(">Q", made.timeout * 1000))
    return _request(Nft.NEWSET, wire.CREATE, body, "add set", made.name)


def new_chain(chain: Chain) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(3, chain.name)
    if chain.hook is not None:
        priority = wire.attribute(2, struct.pack(">i", PRIORITY))
        body += wire.nested(4, wire.attribute(1, u32(chain.hook)), priority)
        body += wire.attribute(5, u32(_ACCEPT)) + wire.attribute_text(7, "filter")
    return _request(Nft.NEWCHAIN, wire.CREATE, body, "add chain", chain.name)


def delete_chain(name: str) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(3, name)
    return _request(Nft.DELCHAIN, 0, body, "delete chain", name)


def delete_set(name: str) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(2, name)
    return _request(Nft.DELSET, 0, body, "delete set", name)


def delete_object(name: str, kind: int) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(2, name) + wire.attribute(3, u32(kind))
    return _request(Nft.DELOBJ, 0, body, "delete object", name)


def delete_flowtable(name: str) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(2, name)
    return _request(Nft.DELFLOWTABLE, 0, body, "delete flowtable", name)


def new_rule(rule: Rule) -> Request:
    body = wire.attribute_text(1, TABLE) + wire.attribute_text(2, rule.chain)
    body += wire.nested(4, *rule.expressions) + wire.attribute(7, comment_bytes(rule.comment))
    return _request(Nft.NEWRULE, wire.CREATE | _APPEND, body, "add rule", f"{rule.chain}: {rule.comment}")


def comment_bytes(comment: str) -> bytes:
    """As the program nft keeps and shows it."""
    text = comment.encode()[:254] + b"\0"
    return bytes([0, len(text)]) + text


def head() -> bytes:
    return _HEAD.pack(INET, 0, 0)


def _request(
    kind: Nft,
    flags: int,
    body: bytes,
    verb: str,
    subject: str,
    done_if: frozenset[int] = frozenset(),
) -> Request:
    return Request(SUBSYSTEM << 8 | kind, flags, head() + body, f"{verb} (nf_tables)", subject, done_if)
