"""Whether links have a carrier: a veth's host end has one as long as the pod's end is up.

``bpf_redirect_peer`` into a link that is down, or gone, loses the packet without a word to anybody, and a
program cannot ask. So the kernel's events are followed, and the rows say so (``ENDPOINT_DOWN``).

The kernel wakes nobody here but for links that go down, or away: an ADD makes half a dozen other events.
Of those that are down it is asked now and then whether they are up again.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Iterable

from datapath.netlink import event_filter, link, socket, wire
from datapath.netlink.event_filter import Test, instruction
from datapath.netlink.link import IFF_LOWER_UP, IFF_UP
from datapath.netlink.monitor import RTMGRP_LINK
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Kind

_TYPE, _FLAGS, _CHANGE = 4, 24, 28
"""Offsets in a message: of struct nlmsghdr, and of struct ifinfomsg behind it."""
_NEW = 0xFFFFFFFF
"""Change mask of a link that was just made: it has never been up."""


class CarrierWatch:
    """Events of one namespace from construction on: construct first, ``all`` then, miss nothing.

    ``netns`` as for ``Socket``. Not safe from several threads.
    """

    def __init__(self, netns: int | None = None) -> None:
        self._events = socket.open_raw(netns, groups=RTMGRP_LINK)
        event_filter.attach(self._events, _losses())
        self._events.setblocking(False)
        self._requests = Socket(netns)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._events.fileno()

    def changes(self) -> dict[int, bool]:
        """By link, as of its latest event that was waiting; of all links if events were lost.

        A link that is gone has no carrier. Never waits.
        """
        found: dict[int, bool] = {}
        for data in socket.waiting(self._events):
            if data is None:
                found = dict.fromkeys(found, False) | self.all()
                continue
            for message in wire.messages(data):
                # Another family than AF_UNSPEC is a bridge talking about its port.
                if message.kind in (Kind.NEWLINK, Kind.DELLINK) and message.body[0] == sockets.AF_UNSPEC:
                    index, carrier = link.carrier_of(message)
                    found[index] = carrier and message.kind == Kind.NEWLINK
        return found

    def all(self) -> dict[int, bool]:
        """Of every link there is."""
        return dict(map(link.carrier_of, link.dump(self._requests)))

    def of(self, indices: Iterable[int]) -> dict[int, bool | None]:
        """As it is now; None for a link that is gone."""
        found: dict[int, bool | None] = {}
        for index in indices:
            answer = self._requests.one(link.get(index))
            found[index] = None if answer is None else link.carrier_of(answer)[1]
        return found

    def close(self) -> None:
        self._events.close()
        self._requests.close()


def _losses() -> list[bytes]:
    """Accept what tells of a link that is gone, has lost its carrier, or was taken down."""
    up, carrier = sockets.htonl(IFF_UP), sockets.htonl(IFF_LOWER_UP)
    return [
        instruction(Test.LOAD_HALF, _TYPE),
        instruction(Test.EQUAL, sockets.htons(Kind.DELLINK), then=6),
        instruction(Test.LOAD_WORD, _FLAGS),
        instruction(Test.ANY_OF, up, then=3),
        instruction(Test.LOAD_WORD, _CHANGE),
        instruction(Test.EQUAL, _NEW, then=3),
        instruction(Test.ANY_OF, up, then=1, otherwise=2),
        instruction(Test.ANY_OF, carrier, then=1),
        event_filter.ACCEPT,
        event_filter.REJECT,
    ]
