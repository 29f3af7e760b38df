"""Changes of links' settings of IPv4 as they happen, for an event loop.

Source: linux/netconf.h; struct netconfmsg is a family. The kernel tells of what is written to /proc/sys, not
of what comes with a link's other changes (``link.change``). Of a new link it tells all settings in one
message, which is not let through: so an ADD wakes nobody.
"""

from __future__ import annotations

import socket as sockets
import struct
from dataclasses import dataclass

from datapath.netlink import event_filter, socket, wire
from datapath.netlink.event_filter import Test, instruction
from datapath.netlink.wire import Message

_NEWNETCONF = 80
_RTNLGRP_IPV4_NETCONF = 24
_HEAD = 4
_IFINDEX, _RP_FILTER = 1, 3
_LENGTH_AT, _ONE_SETTING = 0, 36
"""Of a message about one setting: struct nlmsghdr, struct netconfmsg and two attributes of four bytes."""
ALL = -1


@dataclass(frozen=True, slots=True)
class Change:
    """``index``: the link, ``ALL`` for what counts for every link. ``rp_filter``: what it is now."""

    index: int
    rp_filter: int


class NetconfMonitor:
    """Changes of the reverse path filter, from construction on. ``netns`` as for ``Socket``."""

    def __init__(self, netns: int | None = None) -> None:
        self._events = socket.open_raw(netns, groups=1 << (_RTNLGRP_IPV4_NETCONF - 1))
        event_filter.attach(
            self._events,
            [
                instruction(Test.LOAD_WORD, _LENGTH_AT),
                instruction(Test.EQUAL, sockets.htonl(_ONE_SETTING), otherwise=1),
                event_filter.ACCEPT,
                event_filter.REJECT,
            ],
        )
        self._events.setblocking(False)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._events.fileno()

    def read(self) -> list[Change]:
        """All that are waiting. What was lost, as nobody read in time, the next repair finds."""
        found: list[Change] = []
        for data in socket.waiting(self._events):
            changes = (_decode(message) for message in wire.messages(data or b""))
            found.extend(one for one in changes if one is not None)
        return found

    def close(self) -> None:
        self._events.close()


def _decode(message: Message) -> Change | None:
    """None for what is about another setting."""
    if message.kind != _NEWNETCONF:
        return None
    found = wire.attributes(message.body, _HEAD)
    if _IFINDEX not in found or _RP_FILTER not in found:
        return None
    (index,) = struct.unpack("=i", found[_IFINDEX])
    return Change(index, wire.u32(found[_RP_FILTER]))
