"""Matches and targets of xtables, which iptables-legacy uses and iptables-nft wraps. Pure.

Source: linux/netfilter/xt_conntrack.h, xt_addrtype.h, xt_state.h; integers in host byte order.
"""

from __future__ import annotations

import struct

from datapath.firewall.rule import Act, StackOnly, Step, What

# A packet of the fast path is not shown to conntrack, so no rule about its state meets one. What the rule
# may meet is a flow of which conntrack has seen one direction only, or not the beginning. The first does not
# happen, as both directions of a flow have the same carrier (bpf/lib/decision.h); the second does when a flow
# comes to the stack in the middle (its pod or the node is switched off), and conntrack takes that for
# established unless nf_conntrack_tcp_loose is 0. Translated connections are the stack's from the start.
_INVALID, _SNAT, _DNAT = 1 << 0, 1 << 6, 1 << 7
_STACK_STATES = _INVALID | _SNAT | _DNAT
_MATCH_STATE = 1 << 0
_CONNTRACK_FLAGS = struct.Struct("=HH")
_CONNTRACK_OFFSET = 146

# RTN_LOCAL, RTN_MULTICAST: the node's own addresses, and those that stay on a link.
_STACK_TYPES = 1 << 2 | 1 << 5
_INVERT_DESTINATION = 2

_HARMLESS = frozenset(
    (
        *("MARK", "CONNMARK", "HMARK", "SECMARK", "CONNSECMARK", "CLASSIFY", "SET", "RATEEST"),
        *("CT", "NOTRACK", "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "LED", "IDLETIMER", "CHECKSUM"),
    )
)

_TARGETS = {
    "REJECT": What.REJECT,
    "DROP": What.DROP,
    "NFQUEUE": What.QUEUE,
    "QUEUE": What.QUEUE,
    "MASQUERADE": What.MASQUERADE,
    "SNAT": What.SNAT,
    "DNAT": What.DNAT,
    "NETMAP": What.DNAT,
    "REDIRECT": What.REDIRECT,
    "TPROXY": What.TPROXY,
    "SYNPROXY": What.SYNPROXY,
    "TEE": What.COPY,
    **dict.fromkeys(("TOS", "DSCP", "ECN", "TTL", "HL", "TCPMSS", "TCPOPTSTRIP"), What.CHANGE),
}


def target(name: str) -> tuple[Step, ...]:
    """What the target does; nothing if packets go on as they were. Marks count as nothing."""
    if name in _HARMLESS:
        return ()
    return (Act(_TARGETS.get(name, What.UNKNOWN), f"xtables target {name}"),)


def match(name: str, revision: int, info: bytes) -> tuple[Step, ...]:
    """The condition, if it is one that packets of the fast path cannot meet."""
    decode = {"conntrack": _conntrack, "state": _state, "addrtype": _addrtype}.get(name)
    if decode is None:
        return ()
    try:
        return (StackOnly(),) if decode(revision, info) else ()
    except struct.error:
        return ()


def _conntrack(revision: int, info: bytes) -> bool:
    if revision not in (1, 2, 3):
        return False
    asked, inverted = _CONNTRACK_FLAGS.unpack_from(info, _CONNTRACK_OFFSET)
    form = "=B" if revision == 1 else "=H"
    (states,) = struct.unpack_from(form, info, _CONNTRACK_OFFSET + _CONNTRACK_FLAGS.size)
    return bool(asked & ~inverted & _MATCH_STATE) and _within(states, _STACK_STATES)


def _state(_revision: int, info: bytes) -> bool:
    # Bit 6 is "untracked" here, not "translated".
    (states,) = struct.unpack_from("=I", info)
    return _within(states, _INVALID)


def _addrtype(revision: int, info: bytes) -> bool:
    if revision == 0:
        _, types, _, inverted = struct.unpack_from("=HHII", info)
    else:
        _, types, flags = struct.unpack_from("=HHI", info)
        inverted = flags & _INVERT_DESTINATION
    return not inverted and _within(types, _STACK_TYPES)


def _within(bits: int, allowed: int) -> bool:
    return bool(bits) and not bits & ~allowed
