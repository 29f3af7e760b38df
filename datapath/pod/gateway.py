"""The pods' default gateway, which is no machine: the node answers for it on the pods' host links."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

POD_GATEWAY = IPv4Address("169.254.1.1")
POD_GATEWAY_V6 = IPv6Address("fe80::1")
"""The pod has a permanent neighbour for it, so that nobody need be asked; a guest with a stack of its own
(Kata, gVisor) asks all the same. So the node has the first on its loopback, whence it answers ARP on every
link, or on each host link where ``arp_ignore`` has links answer for themselves only. The second, which is a
link's own, is on each host link of a pod with IPv6."""
