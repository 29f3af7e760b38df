"""Numbers and names of the policy-routing layout on a node. Pure.

    priority  rule                                 made by
    0         from all lookup local                kernel
    512       from all lookup TABLE_PODS           ours, one per family: towards pods
    512       from all to POD lookup main          upstream, one per pod; cleaned up
    600       fwmark ... lookup 100                symmetric routing
    1024      from all iif ENI unreachable         ours, one per ENI and family: for no pod of this node
    2048      from POD lookup 1000+ifindex         ours and upstream's, one per pod: away from pods
    32766     from all lookup main                 kernel

An address that the cloud gave to an ENI and that no pod has (idle, cooling, just released) still draws
packets to this node. Rule 1024 ends them here; by the main table they would leave again and, sent by a pod,
come back until their TTL is over. What a pod sends to where no packet leaves a link for (169.254.0.0/16,
240.0.0.0/4) ends in its ENI's table, at the routes of ``NOT_BEYOND_A_LINK``.

Upstream keeps the pods' /32 routes in the main table behind one rule per pod, so that a look-up walks two
rules per pod; here one rule leads to a table of its own, whose size does not matter to a look-up.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

TABLE_PODS = 512
"""Routes to the pods. Not 1000 and above (tables of ENIs), 100 (symmetric routing), 253-255 (kernel), nor a
number that Cilium (2004, 2005), Calico (1-250) or wg-quick (51820) use. Same as its rule's priority."""

TABLE_ENI_BASE = 1000
PRIORITY_TO_POD = 512
PRIORITY_FROM_ENI = 1024
PRIORITY_FROM_POD = 2048

NOT_BEYOND_A_LINK = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("240.0.0.0/4"),
)
"""Nobody out there has these addresses. 127.0.0.0/8 and multicast never come to a routing table of ours."""

METADATA = IPv4Network("100.100.100.200/32")
"""ECS' instance metadata, the credentials of the node's RAM role among it; it has no IPv6 address."""

NOT_BEYOND_A_LINK_V6 = (IPv6Network("::/96"), IPv6Network("::ffff:0:0/96"))
"""Unspecified, loopback, and what only means an IPv4 address."""


def eni_table(ifindex: int) -> int:
    return TABLE_ENI_BASE + ifindex
