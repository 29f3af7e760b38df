"""Changes of nf_tables as they happen, for an event loop: a descriptor to watch, a read that never waits.

Of a change it is told whether it can matter, not what it is: who hears of one reads the rules anew. What
kube-proxy does all day, to its own chains and to elements of sets, does not matter.
"""

from __future__ import annotations

from datapath.firewall import benign, nft
from datapath.firewall.connection import open_raw
from datapath.firewall.nft import Nft
from datapath.netlink import wire
from datapath.netlink.socket import waiting
from datapath.netlink.wire import Message

_GROUP_NFTABLES = 7
_RULES = frozenset({Nft.NEWTABLE, Nft.DELTABLE, Nft.NEWCHAIN, Nft.DELCHAIN, Nft.NEWRULE, Nft.DELRULE})


class Watch:
    """Of one namespace, from construction on. ``netns`` as for ``Socket``."""

    def __init__(self, netns: int | None = None) -> None:
        self._events = open_raw(netns, groups=1 << (_GROUP_NFTABLES - 1))
        if self._events is not None:
            self._events.setblocking(False)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()

    def fileno(self) -> int:
        """Readable when there are events; -1 on a kernel without nf_tables, which has none."""
        return -1 if self._events is None else self._events.fileno()

    def read(self) -> bool:
        """Take all events that are waiting; True if one of them, or one that was lost, can matter."""
        matters = False
        for data in () if self._events is None else waiting(self._events):
            matters = matters or data is None or any(map(_matters, wire.messages(data)))
        return matters


def _matters(message: Message) -> bool:
    if nft.kind_of(message) not in _RULES:
        return False
    table, chain = nft.names_in(message)
    return not benign.is_table(table) and not benign.is_chain(chain)
