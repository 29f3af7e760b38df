"""What the node writes on an ENI (its alias) about the pod that has the ENI for itself. Pure.

The pod cannot reach it, it goes with the ENI, and it outlives ledger and daemon. It has what must be known to
find the pod again, or to put the ENI right: whose it is, the ENI's own MAC (the pod can set another), the
addresses, and the pod's namespace by path and by identity, as a path may be another namespace's later.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from datapath.endpoint import EndpointKey
from datapath.namespace import Identity
from datapath.netlink.wire import Address

_WORD = "terway-own"
LONGEST = 255
"""Bytes of an alias: IFALIASZ of linux/if.h less its end."""


@dataclass(frozen=True, slots=True)
class Mark:
    """``path`` is "" if it would not fit, or if nobody has told."""

    key: EndpointKey
    mac: str
    netns: Identity
    addresses: tuple[Address, ...]
    path: str = ""

    def text(self) -> str:
        """At most ``LONGEST`` bytes."""
        netns = f"{self.netns.device}:{self.netns.inode}"
        addresses = ",".join(map(str, self.addresses)) or "-"
        text = f"{_WORD} {self.key.container_id} {self.key.ifname} {self.mac} {netns} {addresses}"
        whole = f"{text} {self.path}"
        return whole if self.path and len(whole.encode()) <= LONGEST else text


def read(alias: str) -> Mark | None:
    """None for an alias that is not ours, or that somebody has cut."""
    words = alias.split(" ", 6)
    if len(words) < 6 or words[0] != _WORD:
        return None
    _, container, ifname, mac, netns, addresses, *path = words
    try:
        device, inode = map(int, netns.split(":"))
        found = tuple(map(ip_address, addresses.split(","))) if addresses != "-" else ()
    except ValueError:
        return None
    return Mark(EndpointKey(container, ifname), mac, Identity(device, inode), found, "".join(path))
