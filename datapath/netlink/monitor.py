"""Link events as they happen, for an event loop: a descriptor to watch and a read that never waits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from socket import AF_UNSPEC

from datapath.netlink import link, socket, wire
from datapath.netlink.link import Link
from datapath.netlink.wire import Kind

RTMGRP_LINK = 1


class Event(StrEnum):
    CHANGED = "changed"
    """The link is new, or something about it is."""
    GONE = "gone"
    LOST = "lost"
    """The kernel dropped events, as nobody read them in time: list the links anew."""


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """``link`` as of the event; None for LOST."""

    event: Event
    link: Link | None


class LinkMonitor:
    """Events of one namespace from the moment of construction: construct first, list then, miss nothing.

    ``netns`` as for ``Socket``. With asyncio: ``loop.add_reader(monitor, callback)``.
    """

    def __init__(self, netns: int | None = None) -> None:
        self._events = socket.open_raw(netns, groups=RTMGRP_LINK)
        self._events.setblocking(False)
        self._requests = socket.Socket(netns)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._events.fileno()

    def read(self) -> list[LinkEvent]:
        """All events that are waiting; empty if none is."""
        events: list[LinkEvent] = []
        for data in socket.waiting(self._events):
            events.extend([LinkEvent(Event.LOST, None)] if data is None else _decode(data))
        return events

    def find_by_mac(self, mac: str) -> Link | None:
        """The link that owns ``mac`` now; see ``link.find_by_mac``."""
        return link.find_by_mac(self._requests, mac)

    def close(self) -> None:
        self._events.close()
        self._requests.close()


def _decode(data: bytes) -> list[LinkEvent]:
    # A family other than AF_UNSPEC is a bridge talking about its port: DELLINK there means "left the bridge".
    return [
        LinkEvent(Event.CHANGED if message.kind == Kind.NEWLINK else Event.GONE, link.decode(message))
        for message in wire.messages(data)
        if message.kind in (Kind.NEWLINK, Kind.DELLINK) and message.body[0] == AF_UNSPEC
    ]
