"""Whether what the kernel tells of a rule is what was written. Pure; both are attributes of netlink.

The kernel adds what nobody wrote: attributes that say that there is nothing (flags of 0, no mask). So what
was written must be there as it was, in its order, and what is there beside it must be zero. Source:
linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct

from datapath.netlink import wire

_HEAD = struct.Struct("=HH")
_TYPE = 0x3FFF


def same(written: bytes, told: bytes) -> bool:
    """``written`` says by NLA_F_NESTED what is nested; the kernel, mostly, does not."""
    ours, theirs = _parts(written), _parts(told)
    kinds = [kind & _TYPE for kind, _ in ours]
    if len(set(kinds)) < len(kinds):  # a list: all of one kind, and each counts
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    rest = {kind & _TYPE: value for kind, value in theirs}
    if len(rest) < len(theirs):
        return False
    for kind, value in ours:
        there = rest.pop(kind & _TYPE, None)
        if there is None or not _alike((kind, value), (kind, there)):
            return False
    return not any(map(any, rest.values()))


def _alike(ours: tuple[int, bytes], theirs: tuple[int, bytes]) -> bool:
    if (ours[0] ^ theirs[0]) & _TYPE:
        return False
    return same(ours[1], theirs[1]) if ours[0] & wire.NLA_F_NESTED else ours[1] == theirs[1]


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """Attributes in order, with the flags of their kinds."""
    found = []
    for _, start, _following in wire.places(data, 0):
        length, kind = _HEAD.unpack_from(data, start)
        found.append((kind, data[start + _HEAD.size : start + length]))
    return found
