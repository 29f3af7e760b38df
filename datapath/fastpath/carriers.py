"""Whether pods' links have a carrier: a veth's host end has one as long as the pod's end is up.

``bpf_redirect_peer`` into a link that is down, or gone, loses the packet without a word to anybody, and a
program cannot ask. So the kernel's events are followed, and the rows say so (``ENDPOINT_DOWN``).
"""

from __future__ import annotations

import errno
from socket import AF_UNSPEC

from datapath.netlink import link, socket, wire
from datapath.netlink.monitor import RTMGRP_LINK
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Kind


class CarrierWatch:
    """Events of one namespace from construction on: construct first, ``all`` then, miss nothing.

    ``netns`` as for ``Socket``. Not safe from several threads.
    """

    def __init__(self, netns: int | None = None) -> None:
        self._events = socket.open_raw(netns, groups=RTMGRP_LINK)
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
        while True:
            try:
                data = self._events.recv(socket.RECEIVE_BYTES)
            except BlockingIOError:
                return found
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                found = dict.fromkeys(found, False) | self.all()
                continue
            for message in wire.messages(data):
                # Another family than AF_UNSPEC is a bridge talking about its port.
                if message.kind in (Kind.NEWLINK, Kind.DELLINK) and message.body[0] == AF_UNSPEC:
                    index, carrier = link.carrier_of(message)
                    found[index] = carrier and message.kind == Kind.NEWLINK

    def all(self) -> dict[int, bool]:
        """Of every link there is."""
        return dict(map(link.carrier_of, link.dump(self._requests)))

    def close(self) -> None:
        self._events.close()
        self._requests.close()
