"""What links of pods are called, and the MACs they get: from values that a crash does not lose. Pure."""

from __future__ import annotations

import hashlib

HOST_LINK_PREFIX = "cali"
"""Felix recognises pods by this prefix, so upstream hard-codes it and so do we."""

GROUP_DOOMED = 0x7465726D
"""IFLA_GROUP of host links whose pod is gone; deleting is slow, so it is done for many at once."""

DOOMED_PREFIX = "doomed"

ASIDE_PREFIX = "caliold"
"""Names of host links that a new sandbox has moved out of its way: they come back if the new one fails. No
pod's link is named so, as hex digits follow ``cali`` in theirs; Felix still sees a workload."""


def host_link_name(namespace: str, pod: str, ifname: str) -> str:
    """Name of a pod's host-side link: ``cali`` and 11 hex digits of a SHA-1, upstream's name for eth0.

    For another interface upstream puts its name right behind the pod's, so that net1 of pod web has the name
    of pod webnet1; here a slash, which no name has, stands between the two.
    """
    seed = f"{namespace}.{pod}{'' if ifname == 'eth0' else f'/{ifname}'}"
    return HOST_LINK_PREFIX + hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()[:11]


def doomed_name(ifindex: int) -> str:
    """Out of the way of the next pod with the old name. At most 14 of the 15 characters a link may have."""
    return f"{DOOMED_PREFIX}{ifindex:x}"


def aside_name(ifindex: int) -> str:
    """At most 15 characters."""
    return f"{ASIDE_PREFIX}{ifindex:x}"


def host_mac(container_id: str, ifname: str) -> str:
    return _mac(container_id, ifname, "host")


def pod_mac(container_id: str, ifname: str) -> str:
    return _mac(container_id, ifname, "pod")


def _mac(*seed: str) -> str:
    """A locally administered unicast MAC that the same seed always gives."""
    digest = bytearray(hashlib.sha1("/".join(seed).encode(), usedforsecurity=False).digest()[:6])
    digest[0] = (digest[0] & 0xFC) | 0x02
    return digest.hex(":")
