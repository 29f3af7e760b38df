"""Traffic control over netlink: clsact, blocks that devices share, and bpf filters. Bytes and messages only.

A block is a list of filters that any number of devices hang on: joining takes one message when clsact is
added, and one replaced filter serves all. libbpf knows no blocks, hence this file.
Source: linux/pkt_sched.h, linux/pkt_cls.h; struct tcmsg is family, ifindex, handle, parent, info.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from datapath.errors import KernelError
from datapath.netlink import wire
from datapath.netlink.memory import Listing, Span
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message, Request

_TCMSG = struct.Struct("=BxxxiIII")
_TCA_KIND, _TCA_OPTIONS, _TCA_CHAIN, _TCA_INGRESS_BLOCK, _TCA_EGRESS_BLOCK = 1, 2, 11, 13, 14
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_ID = 6, 7, 8, 11
_TCA_COUNTERS = frozenset({3, 4, 7})
"""TCA_STATS, TCA_XSTATS and TCA_STATS2: they change with each packet."""
_DIRECT_ACTION = 1
_CLSACT = 0xFFFFFFF1
_CLSACT_HANDLE = 0xFFFF0000
_ROOT = 0xFFFFFFFF
_PASSIVE = "noqueue"
"""What the kernel itself gives a veth: it queues nothing, so going past it changes nothing."""
_BLOCK_MAGIC = -1
"""TCM_IFINDEX_MAGIC_BLOCK: the parent is a block's number then."""
_ETH_P_ALL = 3
_ECHO = 0x8
"""NLM_F_ECHO: without it a qdisc that is asked for is told to listeners, and not to who asked."""

PRIORITY = 64
HANDLE = 0x7465
"""Ours among the filters of a device; others may come before and after."""
_INFO = PRIORITY << 16 | socket.htons(_ETH_P_ALL)


class _Tc(IntEnum):
    """nlmsg_type of traffic control."""

    NEWQDISC = 36
    DELQDISC = 37
    GETQDISC = 38
    NEWTFILTER = 44
    DELTFILTER = 45
    GETTFILTER = 46


class Side(IntEnum):
    """The hooks of clsact, as parents of a filter."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


@dataclass(frozen=True, slots=True)
class Blocks:
    """Numbers of the two blocks, unique in a network namespace; 0 for none."""

    ingress: int
    egress: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a filter is: at a hook of a device, or in a block."""

    ifindex: int
    parent: int

    @staticmethod
    def device(ifindex: int, side: Side) -> Place:
        return Place(ifindex, side)

    @staticmethod
    def block(number: int) -> Place:
        return Place(_BLOCK_MAGIC, number)

    def __str__(self) -> str:
        if self.ifindex == _BLOCK_MAGIC:
            return f"block {self.parent}"
        return f"{Side(self.parent).name.lower()} of device {self.ifindex}"


@dataclass(frozen=True, slots=True)
class Shaped:
    """Devices with qdiscs of somebody else's, who shapes or redirects, as a chained bandwidth plugin does.

    ``sent``: at the root, for what the node sends into the device. ``received``: an ingress qdisc, which
    takes the place of clsact.
    """

    sent: frozenset[int]
    received: frozenset[int]


@dataclass(frozen=True, slots=True)
class Qdiscs:
    """The devices that have clsact, with its blocks; that others shape; and whose root somebody has set.

    ``roots`` has the kinds of qdiscs: what the kernel gives by itself has no number, and is not among them.
    """

    clsact: Mapping[int, Blocks]
    shaped: Shaped
    roots: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Qdisc:
    """One, as the kernel lists it. ``blocks`` are those of a clsact."""

    ifindex: int
    handle: int
    parent: int
    kind: str
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Filter:
    """One that is there, whoever's. ``program_id`` is 0 for what is no bpf filter."""

    place: Place
    chain: int
    info: int
    handle: int
    kind: str
    program_id: int
    name: str

    @property
    def is_ours(self) -> bool:
        """By its number: which program is in it is another question."""
        return (self.chain, self.info, self.handle, self.kind) == (0, _INFO, HANDLE, "bpf")

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"filter {self.kind}{name}, priority {self.info >> 16}"


MakeFilter = Callable[[Place, int, str], Request]


def add_clsact(ifindex: int, blocks: Blocks | None = None) -> Request:
    """EEXIST if the device has clsact, whoever added it; its blocks cannot be changed any more."""
    body = _TCMSG.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0) + wire.attribute_text(_TCA_KIND, "clsact")
    if blocks is not None:
        body += wire.attribute_u32(_TCA_INGRESS_BLOCK, blocks.ingress)
        body += wire.attribute_u32(_TCA_EGRESS_BLOCK, blocks.egress)
    return _request(_Tc.NEWQDISC, wire.CREATE | wire.EXCL, body, "add clsact", f"device {ifindex}")


def delete_clsact(ifindex: int) -> Request:
    body = _TCMSG.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0)
    gone = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})
    return _request(_Tc.DELQDISC, 0, body, "remove clsact", f"device {ifindex}", gone)


def put_filter(place: Place, program_fd: int, name: str) -> Request:
    """Put the program there, in place of an earlier one, without a gap."""
    return _request(_Tc.NEWTFILTER, wire.CREATE, _filter(place, program_fd, name), f"attach {name}", place)


def add_filter(place: Place, program_fd: int, name: str) -> Request:
    """Put the program there unless ours is there already, of whatever build."""
    flags, there = wire.CREATE | wire.EXCL, frozenset({errno.EEXIST})
    body = _filter(place, program_fd, name)
    return _request(_Tc.NEWTFILTER, flags, body, f"attach {name}", place, there)


def delete_filter(place: Place) -> Request:
    body = _head(place) + wire.attribute_text(_TCA_KIND, "bpf")
    gone = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})
    return _request(_Tc.DELTFILTER, 0, body, "detach the program", place, gone)


def delete_other(found: Filter) -> Request:
    """Of somebody else's."""
    place = found.place
    body = _TCMSG.pack(0, place.ifindex, found.handle, place.parent, found.info)
    body += wire.attribute_text(_TCA_KIND, found.kind) + wire.attribute_u32(_TCA_CHAIN, found.chain)
    gone = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})
    return _request(_Tc.DELTFILTER, 0, body, f"take away a {found.kind} filter", place, gone)


def list_filters(netlink: Socket, place: Place) -> tuple[Filter, ...]:
    """All of them, in the order in which packets meet them; none where there is no such device or block."""
    body = _TCMSG.pack(0, place.ifindex, 0, place.parent, 0)
    try:
        listed = list(netlink.dump(_request(_Tc.GETTFILTER, wire.DUMP, body, "list filters", place)))
    except KernelError as exc:
        if exc.errno not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            raise
        return ()
    return tuple(found for one in listed if (found := _filter_of(one, place)) is not None)


def _filter_of(message: Message, place: Place) -> Filter | None:
    """None for the line that the kernel writes of a classifier as such, which has no handle."""
    _, _, handle, _, info = _TCMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _TCMSG.size)
    options = wire.attributes(found.get(_TCA_OPTIONS, b""))
    if not handle:
        return None
    return Filter(
        place=place,
        chain=wire.u32(found[_TCA_CHAIN]) if _TCA_CHAIN in found else 0,
        info=info,
        handle=handle,
        kind=(kind := wire.text(found.get(_TCA_KIND, b""))),
        program_id=wire.u32(options[_BPF_ID]) if kind == "bpf" and _BPF_ID in options else 0,
        name=wire.text(options[_BPF_NAME]) if kind == "bpf" and _BPF_NAME in options else "",
    )


def program_at(netlink: Socket, place: Place) -> int | None:
    """The kernel's id of our filter's program, None if we have none there."""
    body = _head(place) + wire.attribute_text(_TCA_KIND, "bpf")
    gone = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})
    answer = netlink.one(_request(_Tc.GETTFILTER, 0, body, "ask for the program", place, gone))
    if answer is None:
        return None
    options = wire.attributes(wire.attributes(answer.body, _TCMSG.size).get(_TCA_OPTIONS, b""))
    return wire.u32(options[_BPF_ID]) if _BPF_ID in options else None


def clsact_at(netlink: Socket, ifindex: int) -> Blocks | None:
    """None if the device has no clsact, or is gone."""
    body = _TCMSG.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0)
    gone = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})
    answer = netlink.one(_request(_Tc.GETQDISC, _ECHO, body, "ask for clsact", f"device {ifindex}", gone))
    found = {} if answer is None else wire.attributes(answer.body, _TCMSG.size)
    return _blocks(found) if wire.text(found.get(_TCA_KIND, b"")) == "clsact" else None


def list_qdiscs(netlink: Socket) -> Qdiscs:
    """Of the namespace, in one reading: a node has two or three for each pod."""
    return qdiscs(QDISCS.ask(netlink))


def qdiscs(listed: Iterable[Qdisc]) -> Qdiscs:
    clsact, roots, sent, received = {}, {}, set(), set()
    for one in listed:
        if one.kind == "clsact":
            clsact[one.ifindex] = one.blocks
        elif one.kind == "ingress":
            received.add(one.ifindex)
        if one.parent == _ROOT and one.kind != _PASSIVE:
            sent.add(one.ifindex)
        if one.parent == _ROOT and one.handle:
            roots[one.ifindex] = one.kind
    return Qdiscs(clsact, Shaped(frozenset(sent), frozenset(received)), roots)


def list_clsact(netlink: Socket) -> Mapping[int, Blocks]:
    """The devices of the namespace that have clsact, with its blocks."""
    return list_qdiscs(netlink).clsact


def _qdisc(message: Message) -> Qdisc:
    _, ifindex, handle, parent, _ = _TCMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _TCMSG.size)
    return Qdisc(ifindex, handle, parent, wire.text(found.get(_TCA_KIND, b"")), _blocks(found))


def _counters(body: bytes) -> tuple[Span, ...]:
    places = wire.places(body, _TCMSG.size)
    return tuple((begins, ends) for kind, begins, ends in places if kind in _TCA_COUNTERS)


def _blocks(clsact: Mapping[int, bytes]) -> Blocks:
    numbers = (wire.u32(clsact.get(kind, b"")) for kind in (_TCA_INGRESS_BLOCK, _TCA_EGRESS_BLOCK))
    return Blocks(*numbers)


def _head(place: Place) -> bytes:
    return _TCMSG.pack(0, place.ifindex, HANDLE, place.parent, _INFO)


def _filter(place: Place, program_fd: int, name: str) -> bytes:
    return (
        _head(place)
        + wire.attribute_text(_TCA_KIND, "bpf")
        + wire.nested(
            _TCA_OPTIONS,
            wire.attribute_u32(_BPF_FD, program_fd),
            wire.attribute_text(_BPF_NAME, name),
            wire.attribute_u32(_BPF_FLAGS, _DIRECT_ACTION),
        )
    )


def _request(
    kind: _Tc, flags: int, body: bytes, verb: str, subject: object, done_if: frozenset[int] = frozenset()
) -> Request:
    return Request(kind, flags, body, verb, subject, done_if)


QDISCS = Listing(
    _request(_Tc.GETQDISC, wire.DUMP, _TCMSG.pack(0, 0, 0, 0, 0), "list qdiscs", "all"),
    _qdisc,
    changing=_counters,
)
"""Every qdisc that has a number or was set by somebody."""
