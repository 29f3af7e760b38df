"""Expressions of a rule of nf_tables into steps. Pure.

An expression loads a field into a register, changes it there, compares it, or acts. Loads and comparisons
that are understood become conditions, all others are passed over; every act becomes one, and so does an
expression that nobody here has heard of.
Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from datapath.firewall import comparison, extension, listing
from datapath.firewall.comparison import Op
from datapath.firewall.listing import Attributes, number
from datapath.firewall.registers import Field, Held, Registers
from datapath.firewall.rule import VERSIONS, Act, Family, Jump, Step, Version, What
from datapath.netlink import wire

Steps = tuple[Step, ...]

# Attribute numbers, where the destination register is the first of them as it is in most.
_DREG = 1
_PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LEN, _PAYLOAD_SREG = 2, 3, 4, 5
_META_KEY, _META_SREG = 2, 3
_CT_KEY = 2
_FIB_RESULT, _FIB_FLAGS = 2, 3
_BITWISE_SREG, _BITWISE_DREG, _BITWISE_MASK, _BITWISE_XOR, _BITWISE_OP = 1, 2, 4, 5, 6
_CMP_SREG, _CMP_OP, _CMP_DATA = 1, 2, 3
_RANGE_SREG, _RANGE_OP, _RANGE_FROM, _RANGE_TO = 1, 2, 3, 4
_LOOKUP_DREG = 3
_IMMEDIATE_DATA = 2
_DATA_VERDICT = 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_NAT_TYPE = 1
_OBJREF_TYPE = 1
_XT_NAME, _XT_REVISION, _XT_INFO = 1, 2, 3

_VERDICT_REGISTER = 0
_NETWORK_HEADER = 1
_CT_STATE = 0
_FIB_ADDRTYPE, _FIB_DADDR = 3, 2
_SOURCE_NAT = 0
_OBJECT_SYNPROXY = 10

_NF_DROP, _NF_QUEUE = 0, 3
_JUMP, _GOTO = -3, -4
_NF_VERDICT_MASK = 0xFF

_META = {
    1: Held(Field.ETHERTYPE, 2),
    6: Held(Field.DEVICE, 16),
    7: Held(Field.DEVICE, 16),
    15: Held(Field.FAMILY, 1),
}

_ACTS = {
    "reject": What.REJECT,
    "queue": What.QUEUE,
    "masq": What.MASQUERADE,
    "redir": What.REDIRECT,
    "tproxy": What.TPROXY,
    "synproxy": What.SYNPROXY,
    "dup": What.COPY,
    "fwd": What.MOVE,
}

_HARMLESS = frozenset(
    ("counter", "log", "limit", "quota", "connlimit", "last", "notrack", "dynset", "flow_offload")
)
_LOADS = frozenset(("byteorder", "hash", "numgen", "rt", "socket", "osf", "xfrm", "tunnel", "inner"))
"""What else writes to a register, somewhere."""


def steps(expressions: bytes, family: Family) -> Steps:
    """The rule whose NFTA_RULE_EXPRESSIONS these are."""
    reader = _Reader(family)
    found: list[Step] = []
    for name, attributes in listing.expressions(expressions):
        try:
            found.extend(reader.step(name, attributes))
        except (LookupError, ValueError, struct.error):
            found.append(Act(What.UNKNOWN, f"expression {name} in an unknown form"))
    return tuple(found)


class _Reader:
    """One rule, from its first expression to its last."""

    def __init__(self, family: Family) -> None:
        versions = VERSIONS[family]
        self._version = versions[0] if len(versions) == 1 else None
        self._registers = Registers()
        self._known: dict[str, Callable[[Attributes], Steps]] = {
            "payload": self._payload,
            "exthdr": self._exthdr,
            "meta": self._meta,
            "ct": self._ct,
            "fib": self._fib,
            "bitwise": self._bitwise,
            "cmp": self._cmp,
            "range": self._range,
            "lookup": self._lookup,
            "immediate": self._immediate,
            "nat": _nat,
            "objref": _objref,
            "match": _match,
            "target": _target,
        }

    def step(self, name: str, attributes: Attributes) -> Steps:
        if name in self._known:
            return self._known[name](attributes)
        if name in _ACTS:
            return (Act(_ACTS[name]),)
        if name in _LOADS:
            self._registers.forget()
        elif name not in _HARMLESS:
            return (Act(What.UNKNOWN, f"expression {name}"),)
        return ()

    def _payload(self, found: Attributes) -> Steps:
        if _PAYLOAD_SREG in found:
            return (Act(What.CHANGE),)
        offset, length = number(found[_PAYLOAD_OFFSET]), number(found[_PAYLOAD_LEN])
        if number(found[_PAYLOAD_BASE]) == _NETWORK_HEADER:
            self._registers.put(number(found[_DREG]), Held(Field.HEADER, length, offset))
        else:
            self._registers.forget()
        return ()

    def _exthdr(self, found: Attributes) -> Steps:
        self._registers.forget()
        return () if _DREG in found else (Act(What.CHANGE),)

    def _meta(self, found: Attributes) -> Steps:
        if _META_SREG not in found:
            self._load(found, _META.get(number(found[_META_KEY])))
        return ()

    def _ct(self, found: Attributes) -> Steps:
        if _DREG in found:
            state = number(found[_CT_KEY]) == _CT_STATE
            self._load(found, Held(Field.CONNECTION, 4) if state else None)
        return ()

    def _fib(self, found: Attributes) -> Steps:
        destination = number(found[_FIB_FLAGS]) & _FIB_DADDR
        typed = number(found[_FIB_RESULT]) == _FIB_ADDRTYPE
        self._load(found, Held(Field.DESTINATION_TYPE, 4) if destination and typed else None)
        return ()

    def _load(self, found: Attributes, held: Held | None) -> None:
        if held is None:
            self._registers.forget()
        else:
            self._registers.put(number(found[_DREG]), held)

    def _bitwise(self, found: Attributes) -> Steps:
        masks = number(found.get(_BITWISE_OP, b"")) == 0 and not any(
            listing.value(found.get(_BITWISE_XOR, b""))
        )
        if masks:
            mask = listing.value(found.get(_BITWISE_MASK, b""))
            self._registers.masked(number(found[_BITWISE_SREG]), number(found[_BITWISE_DREG]), mask)
        else:
            self._registers.forget()
        return ()

    def _cmp(self, found: Attributes) -> Steps:
        held = self._registers.get(number(found[_CMP_SREG]))
        if held is None:
            return ()
        data = listing.value(found[_CMP_DATA])
        narrowed = comparison.compare(held, Op(number(found[_CMP_OP])), data, self._version)
        for step in narrowed:
            if isinstance(step, Version):
                self._version = step.number
        return narrowed

    def _range(self, found: Attributes) -> Steps:
        held = self._registers.get(number(found[_RANGE_SREG]))
        if held is None:
            return ()
        ends = listing.value(found[_RANGE_FROM]), listing.value(found[_RANGE_TO])
        inverted = number(found[_RANGE_OP]) != Op.EQ
        return comparison.between(held, ends, inverted=inverted, version=self._version)

    def _lookup(self, found: Attributes) -> Steps:
        if _LOOKUP_DREG not in found:
            return ()
        self._registers.forget()
        decides = number(found[_LOOKUP_DREG]) == _VERDICT_REGISTER
        return (Act(What.VERDICT_MAP),) if decides else ()

    def _immediate(self, found: Attributes) -> Steps:
        if number(found[_DREG]) == _VERDICT_REGISTER:
            return _verdict(wire.attributes(wire.attributes(found[_IMMEDIATE_DATA])[_DATA_VERDICT]))
        self._registers.forget()
        return ()


def _verdict(found: Attributes) -> Steps:
    (code,) = struct.unpack(">i", found[_VERDICT_CODE])
    if code in (_JUMP, _GOTO):
        return (Jump(wire.text(found[_VERDICT_CHAIN])),)
    if code < 0:
        return ()
    act = {_NF_DROP: What.DROP, _NF_QUEUE: What.QUEUE}.get(code & _NF_VERDICT_MASK)
    return (Act(act),) if act else ()


def _nat(found: Attributes) -> Steps:
    return (Act(What.SNAT if number(found[_NAT_TYPE]) == _SOURCE_NAT else What.DNAT),)


def _objref(found: Attributes) -> Steps:
    """Counters, limits and the like, but for synproxy; a map of objects may hold any kind."""
    if _OBJREF_TYPE not in found:
        return (Act(What.OBJECT_MAP),)
    return (Act(What.SYNPROXY),) if number(found[_OBJREF_TYPE]) == _OBJECT_SYNPROXY else ()


def _match(found: Attributes) -> Steps:
    revision = number(found.get(_XT_REVISION, b""))
    return extension.match(wire.text(found.get(_XT_NAME, b"")), revision, found.get(_XT_INFO, b""))


def _target(found: Attributes) -> Steps:
    return extension.target(wire.text(found.get(_XT_NAME, b"")))
