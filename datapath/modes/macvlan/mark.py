"""What the node writes on an ENI (its alias) about the pod that has the ENI for itself. Pure.

The pod cannot reach it, it goes with the ENI, and it outlives ledger and daemon. It has what must be known to
find the pod again, or to put the ENI right: whose it is, the ENI's own MAC (the pod can set another), the
addresses, and the pod's namespace by path and by identity, as a path may be another namespace's later. An
alias that somebody else gave the ENI stands behind it, and alone again when the pod is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from datapath.endpoint import EndpointKey
from datapath.namespace import Identity
from datapath.netlink.wire import Address

_WORD = "terway-own"
_BEHIND = " // "
"""Before another hand's text. No path that a runtime gives has it."""
LONGEST = 255
"""Bytes of an alias: IFALIASZ of linux/if.h less its end."""


@dataclass(frozen=True, slots=True)
class Mark:
    """``path`` is "" if it would not fit, or if nobody has told. ``beside``: another hand's alias."""

    key: EndpointKey
    mac: str
    netns: Identity
    addresses: tuple[Address, ...]
    path: str = ""
    beside: str = ""

    def text(self) -> str:
        """At most ``LONGEST`` bytes. Raises ValueError if there is no room for ``beside``."""
        netns = f"{self.netns.device}:{self.netns.inode}"
        addresses = ",".join(map(str, self.addresses)) or "-"
        text = f"{_WORD} {self.key.container_id} {self.key.ifname} {self.mac} {netns} {addresses}"
        behind = f"{_BEHIND}{self.beside}" if self.beside else ""
        whole = f"{text} {self.path}{behind}"
        if self.path and len(whole.encode()) <= LONGEST:
            return whole
        if len(f"{text}{behind}".encode()) > LONGEST:
            raise ValueError(f"alias {self.beside!r} is too long to stand beside what the node writes there")
        return f"{text}{behind}"


def read(alias: str) -> Mark | None:
    """None for an alias that is not ours, or that somebody has cut."""
    ours, _, beside = alias.partition(_BEHIND)
    words = ours.split(" ", 6)
    if len(words) < 6 or words[0] != _WORD:
        return None
    _, container, ifname, mac, netns, addresses, *path = words
    try:
        device, inode = map(int, netns.split(":"))
        found = tuple(map(ip_address, addresses.split(","))) if addresses != "-" else ()
    except ValueError:
        return None
    return Mark(EndpointKey(container, ifname), mac, Identity(device, inode), found, "".join(path), beside)


def beside(alias: str) -> str:
    """What of an alias is another hand's: all of it, if it is no mark nor the rest of one."""
    found = read(alias)
    if found is not None:
        return found.beside
    return "" if alias.startswith(_WORD) else alias
