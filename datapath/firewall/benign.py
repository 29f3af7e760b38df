"""Whose chains are left alone: they mean services and node ports, whose packets take the stack in any case.

A service's packet is addressed to service_cidr or to the node, or is an answer to one the stack translated:
none of them is the fast path's. So is all that these chains drop, mark, translate and masquerade.
The agent's own table (``datapath.enforcement.guard``) refuses what the fast path refuses as well.
Source: kube-proxy (pkg/proxy/iptables, ipvs, nftables), kubelet (pkg/kubelet/kubelet_network_linux.go),
the portmap plugin of containernetworking-plugins.
"""

from __future__ import annotations

TABLES = frozenset({"kube-proxy", "cni_hostport", "terway"})

CHAINS = frozenset(
    {
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-NODE-PORT",
        "KUBE-LOAD-BALANCER",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-POSTROUTING",
        "KUBE-FORWARD",
        "KUBE-PROXY-FIREWALL",
        "KUBE-PROXY-CANARY",
        "KUBE-FIREWALL",
        "KUBE-KUBELET-CANARY",
        "KUBE-IPTABLES-HINT",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
    }
)

# Not KUBE- alone: kube-router's KUBE-ROUTER-, KUBE-POD-FW- and KUBE-NWPLCY- are network policy.
PREFIXES = (
    "KUBE-MARK-",
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-SEP-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-XLB-",
    "CNI-HOSTPORT-",
    "CNI-DN-",
    "CNI-SN-",
)


def is_table(name: str) -> bool:
    """A table of nft, in whichever family."""
    return name in TABLES


def is_chain(name: str) -> bool:
    return name in CHAINS or name.startswith(PREFIXES)
