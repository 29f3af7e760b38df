"""What a rule of nf_tables consists of, into bytes. Pure; ``datapath.firewall.expression`` reads the same.

An expression loads a field of the packet into a register, compares a register and ends the rule if it
differs, or acts. What is loaded goes to the beginning of the registers; ``load_key`` loads two fields.
Source: linux/netfilter/nf_tables.h. Integers are in network byte order, data as the register has it.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from datapath.netlink import wire

Expression = bytes

_LIST_ELEM = 1
_NAME, _DATA = 1, 2
_VALUE, _VERDICT = 1, 2
_VERDICT_REGISTER, _REGISTER = 0, 1
_SECOND_WORD = 9
"""Of the first register of 16 bytes, in words of four; the first is that register's own number."""
_NETWORK, _TRANSPORT = 1, 2
_COUNTER_OBJECT = 1
_LIMIT_OVER = 1
_DYNSET_ADD = 0


class Meta(IntEnum):
    IIF = 4
    IIFNAME = 6
    NFPROTO = 15
    L4PROTO = 16


class Fib(IntEnum):
    """What a look-up in the routes is asked for."""

    OIF = 1
    OIFNAME = 2
    TYPE = 3


class FibBy(IntEnum):
    """And with what."""

    SOURCE = 1
    DESTINATION = 2
    IIF = 8


class Verdict(IntEnum):
    DROP = 0
    ACCEPT = 1
    GOTO = -4
    RETURN = -5


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def expression(name: str, *attributes: bytes) -> Expression:
    data = wire.nested(_DATA, *attributes)
    return wire.nested(_LIST_ELEM, wire.attribute_text(_NAME, name), data)


def load_meta(key: Meta, *, register: int = _REGISTER) -> Expression:
    return expression("meta", wire.attribute(1, u32(register)), wire.attribute(2, u32(key)))


def load_network(offset: int, length: int) -> Expression:
    """Bytes of the IP header."""
    return _payload(_NETWORK, offset, length)


def load_key(offset: int, length: int) -> tuple[Expression, Expression]:
    """The link that the packet came by, then bytes of the IP header: for ``in_set`` and ``add_to``."""
    field = _payload(_NETWORK, offset, length, register=_SECOND_WORD)
    return load_meta(Meta.IIF, register=_REGISTER), field


def in_set(name: str) -> Expression:
    """What is loaded is an element of the set; else the rule ends."""
    return expression("lookup", wire.attribute_text(1, name), wire.attribute(2, u32(_REGISTER)))


def add_to(name: str) -> Expression:
    """What is loaded becomes an element, if it is none yet; if the set is full the rule ends."""
    return expression(
        "dynset",
        wire.attribute_text(1, name),
        wire.attribute(3, u32(_DYNSET_ADD)),
        wire.attribute(4, u32(_REGISTER)),
    )


def load_transport(offset: int, length: int) -> Expression:
    return _payload(_TRANSPORT, offset, length)


def load_fib(result: Fib, by: int) -> Expression:
    """``by``: of ``FibBy``. Where there is no such route the register holds zeros."""
    register, flags = wire.attribute(1, u32(_REGISTER)), wire.attribute(3, u32(by))
    return expression("fib", register, wire.attribute(2, u32(result)), flags)


def mask(value: bytes) -> Expression:
    """Keep only these bits of the register."""
    register, length = u32(_REGISTER), u32(len(value))
    return expression(
        "bitwise",
        wire.attribute(1, register),
        wire.attribute(2, register),
        wire.attribute(3, length),
        wire.nested(4, wire.attribute(_VALUE, value)),
        wire.nested(5, wire.attribute(_VALUE, bytes(len(value)))),
    )


def equal(value: bytes) -> Expression:
    """The register begins with ``value``; else the rule ends."""
    return _compare(0, value)


def differs(value: bytes) -> Expression:
    return _compare(1, value)


def count(name: str) -> Expression:
    """Add to the counter object of that name."""
    return expression("objref", wire.attribute(1, u32(_COUNTER_OBJECT)), wire.attribute_text(2, name))


def over_limit(per_minute: int, burst: int, *, meter: str) -> Expression:
    """The register's value has been seen more often than that; else the rule ends."""
    limit = wire.attribute_text(_NAME, "limit") + wire.nested(
        _DATA,
        wire.attribute(1, struct.pack(">Q", per_minute)),
        wire.attribute(2, struct.pack(">Q", 60)),
        wire.attribute(3, u32(burst)),
        wire.attribute(5, u32(_LIMIT_OVER)),
    )
    return expression(
        "dynset",
        wire.attribute_text(1, meter),
        wire.attribute(3, u32(_DYNSET_ADD)),
        wire.attribute(4, u32(_REGISTER)),
        wire.nested(7, limit),
    )


def verdict(code: Verdict, chain: str = "") -> Expression:
    """``chain``: where GOTO goes."""
    inner = wire.attribute(1, struct.pack(">i", code))
    if chain:
        inner += wire.attribute_text(2, chain)
    data = wire.nested(2, wire.nested(_VERDICT, inner))
    return expression("immediate", wire.attribute(1, u32(_VERDICT_REGISTER)), data)


def _payload(base: int, offset: int, length: int, *, register: int = _REGISTER) -> Expression:
    return expression(
        "payload",
        wire.attribute(1, u32(register)),
        wire.attribute(2, u32(base)),
        wire.attribute(3, u32(offset)),
        wire.attribute(4, u32(length)),
    )


def _compare(operation: int, value: bytes) -> Expression:
    return expression(
        "cmp",
        wire.attribute(1, u32(_REGISTER)),
        wire.attribute(2, u32(operation)),
        wire.nested(3, wire.attribute(_VALUE, value)),
    )
