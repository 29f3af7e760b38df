"""What is done to addresses, routes, rules, neighbours, links and settings of a namespace, as it happens.

Source: linux/rtnetlink.h, linux/netconf.h. The kernel says by which socket a change was asked for, mostly
(nlmsg_pid), 0 where it did so by itself or does not say. What is let through is chosen so that neither a busy
neighbour table nor a routing daemon's main table wakes anybody: neighbours that go or that somebody has set,
and routes of tables above 255. Of settings those that are told one by one; of a new link the kernel tells all
in one message.
"""

from __future__ import annotations

import socket as sockets
import struct
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from socket import AF_UNSPEC

from datapath.netlink import address, event_filter, link, neighbour, route, rule, socket, wire
from datapath.netlink.address import Assigned
from datapath.netlink.event_filter import ACCEPT, REJECT, Test, instruction
from datapath.netlink.link import Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Kind, Message

ALL, DEFAULT = -1, -2
"""Instead of a link's number: what counts for every link, and for the next one."""

_NEWNETCONF = 80
_GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 24, 25)
"""Links, neighbours; addresses, routes and rules of IPv4 (7 and 8) and IPv6; settings of both."""
_NETCONF_HEAD, _IFINDEX = 4, 1
_LENGTH_AT, _KIND_AT, _PORT_AT, _TABLE_AT = 0, 4, 12, 20
SPARED = 64
"""Ports whose changes the kernel leaves out; there is one for each thread that talks to it at once."""
_ONE_SETTING = 36
"""Of a message about one setting: struct nlmsghdr, struct netconfmsg and two attributes of four bytes."""
_COMPAT = 252
"""RT_TABLE_COMPAT: the table's number does not fit into its byte."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of link ``index``, or of ``ALL`` or ``DEFAULT``, was written below /proc/sys."""

    index: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody read in time, and the kernel dropped some."""


@dataclass(frozen=True, slots=True)
class LinkHead:
    """A link as of a change, read as far as somebody asks: a link's messages are long, and there are many."""

    index: int
    message: Message

    def link(self) -> Link:
        return link.decode(self.message)

    def mac(self) -> str:
        return link.mac_of(self.message)


Subject = LinkHead | Assigned | Route | Rule | Neighbour | Setting | Lost


@dataclass(frozen=True, slots=True)
class Change:
    """``gone``: it is no more. ``by``: the port of the socket that asked for it, 0 if nobody is told."""

    subject: Subject
    gone: bool = False
    by: int = 0


class ChangeMonitor:
    """Changes from construction on. ``netns`` as for ``Socket``."""

    def __init__(self, netns: int | None = None) -> None:
        groups = sum(1 << (one - 1) for one in _GROUPS)
        self._events = socket.open_raw(netns, groups=groups)
        event_filter.attach(self._events, _program())
        self._events.setblocking(False)

    def fileno(self) -> int:
        """Readable when there are changes."""
        return self._events.fileno()

    def spare(self, ports: Collection[int]) -> None:
        """What the sockets of these ports ask for wakes nobody from now on. The kernel sees to it, as an ADD
        is a dozen changes; what was told before is left out by ``read``. Those beyond the first few are left
        to ``read`` too: a program has an end."""
        event_filter.attach(self._events, _program(sorted(ports)[:SPARED]))

    def read(self, own: Container[int] = ()) -> list[Change]:
        """All that are waiting, without those that were asked for by the sockets of these ports."""
        found: list[Change] = []
        for data in socket.waiting(self._events):
            found.extend([Change(Lost())] if data is None else _changes(data, own))
        return found

    def close(self) -> None:
        self._events.close()


def _changes(data: bytes, own: Container[int]) -> Iterator[Change]:
    offset = 0
    for message in wire.messages(data):
        (by,) = struct.unpack_from("=I", data, offset + 12)
        offset += wire.aligned(wire.HEADER.size + len(message.body))
        if by in own:
            continue
        subject: Subject | None = None
        if message.kind in (Kind.NEWLINK, Kind.DELLINK) and message.body[0] == AF_UNSPEC:
            subject = LinkHead(link.index_of(message), message)
        elif message.kind in (Kind.NEWADDR, Kind.DELADDR):
            subject = address.decode(message)
        elif message.kind in (Kind.NEWROUTE, Kind.DELROUTE):
            subject = route.decode(message)
        elif message.kind in (Kind.NEWRULE, Kind.DELRULE):
            subject = rule.decode(message)
        elif message.kind in (Kind.NEWNEIGH, Kind.DELNEIGH):
            subject = neighbour.decode_changed(message)
        elif message.kind == _NEWNETCONF:
            told = wire.attributes(message.body, _NETCONF_HEAD).get(_IFINDEX, b"")
            subject = Setting(struct.unpack("=i", told)[0]) if len(told) == 4 else None
        if subject is not None:
            yield Change(subject, message.kind in _GONE, by)


_GONE = frozenset({Kind.DELLINK, Kind.DELADDR, Kind.DELROUTE, Kind.DELRULE, Kind.DELNEIGH})


def _program(spared: Iterable[int] = ()) -> list[event_filter.Instruction]:
    """Numbers of netlink's are the machine's, and the filter compares in network order."""
    plain = (
        Kind.NEWLINK,
        Kind.DELLINK,
        Kind.NEWADDR,
        Kind.DELADDR,
        Kind.NEWRULE,
        Kind.DELRULE,
        Kind.DELNEIGH,
    )
    made = [instruction(Test.LOAD_WORD, _PORT_AT)]
    for port in spared:
        made += [instruction(Test.EQUAL, sockets.htonl(port), otherwise=1), REJECT]
    made.append(instruction(Test.LOAD_HALF, _KIND_AT))
    for kind in plain:
        made += [instruction(Test.EQUAL, sockets.htons(kind), otherwise=1), ACCEPT]
    settings = [
        instruction(Test.LOAD_WORD, _LENGTH_AT),
        instruction(Test.EQUAL, sockets.htonl(_ONE_SETTING), otherwise=1),
        ACCEPT,
        REJECT,
    ]
    by_somebody = [
        instruction(Test.LOAD_WORD, _PORT_AT),
        instruction(Test.EQUAL, 0, then=1),
        ACCEPT,
        REJECT,
    ]
    # What the kernel learns by itself nobody has asked for.
    made += [
        instruction(Test.EQUAL, sockets.htons(Kind.NEWNEIGH), otherwise=len(by_somebody)),
        *by_somebody,
    ]
    made += [instruction(Test.EQUAL, sockets.htons(_NEWNETCONF), otherwise=len(settings)), *settings]
    routes = (Kind.NEWROUTE, Kind.DELROUTE)
    made += [
        instruction(Test.EQUAL, sockets.htons(routes[0]), then=2),
        instruction(Test.EQUAL, sockets.htons(routes[1]), then=1),
        REJECT,
        instruction(_LOAD_BYTE, _TABLE_AT),
        instruction(Test.EQUAL, _COMPAT, otherwise=1),
        ACCEPT,
        REJECT,
    ]
    return made


_LOAD_BYTE = 0x30
