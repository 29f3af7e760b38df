"""Who refuses what a pod may not send, and whether that is enough for the pod to start. Pure.

What must hold is apart from what makes fast: an ADD succeeds without the fast path, and fails where nobody
would refuse that the pod sends as somebody else. Locks are not alternatives: each holds while another is not
yet in place, or is being changed.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint
from datapath.errors import Unenforced


class Lie(StrEnum):
    """A kind of packet that a pod may not send. The words of ``terway-cli mode``."""

    SOURCE_IPV4 = "source_ipv4"
    SOURCE_IPV6 = "source_ipv6"
    NEIGHBOUR_ARP = "neighbour_arp"
    NEIGHBOUR_ND = "neighbour_nd"
    ROUTER_ADVERTISEMENT = "router_advertisement"
    TUNNEL_TO_THE_NODE = "tunnel_to_the_node"


class Lock(StrEnum):
    EBPF = "eBPF"
    """The program pod_egress at the pod's host link, with the pod's row."""
    NFTABLES = "nftables"
    """The table of ``enforcement.guard``."""
    RP_FILTER = "rp_filter"
    """The strict reverse path filter of the pod's host link."""
    VPC = "VPC"
    """The cloud, which drops what has another MAC or address than the ENI's. It is nobody's to switch off."""


HOLDS: Mapping[Lock, frozenset[Lie]] = {
    Lock.EBPF: frozenset(Lie),
    Lock.NFTABLES: frozenset(Lie) - {Lie.NEIGHBOUR_ARP},
    Lock.RP_FILTER: frozenset({Lie.SOURCE_IPV4, Lie.NEIGHBOUR_ARP}),
    Lock.VPC: frozenset(Lie) - {Lie.TUNNEL_TO_THE_NODE},
}
MUST: Mapping[int, tuple[Lie, ...]] = {
    4: (Lie.SOURCE_IPV4, Lie.NEIGHBOUR_ARP),
    6: (Lie.SOURCE_IPV6, Lie.NEIGHBOUR_ND, Lie.ROUTER_ADVERTISEMENT),
}
"""What has to be refused of a pod with an address of the IP version. The rest is told, and fails no pod."""


@dataclass(frozen=True, slots=True)
class Locks:
    """``of``: what can hold for a pod, by its mode. ``off``: why one does not. Those not in it do."""

    of: tuple[Lock, ...]
    off: Mapping[Lock, str] = field(default_factory=dict)

    def holders(self, lie: Lie) -> list[Lock]:
        return _holders(self.of, frozenset(self.off), lie)

    def table(self) -> dict[str, list[str]]:
        """By lie, who refuses it; an empty list: nobody does."""
        return {lie.value: [one.value for one in self.holders(lie)] for lie in Lie}

    def unheld(self, endpoint: Endpoint) -> tuple[Lie, ...]:
        """What must be refused of the pod, and nobody refuses."""
        versions = tuple(one.version for one in endpoint.addresses())
        return _unheld(self.of, frozenset(self.off), versions)

    def reasons(self) -> str:
        return "; ".join(f"{lock}: {why}" for lock, why in self.off.items())


def _holders(of: tuple[Lock, ...], off: frozenset[Lock], lie: Lie) -> list[Lock]:
    return [one for one in of if one not in off and lie in HOLDS[one]]


@cache
def _unheld(of: tuple[Lock, ...], off: frozenset[Lock], versions: tuple[int, ...]) -> tuple[Lie, ...]:
    """Every ADD asks, and there are a dozen answers."""
    must = (lie for version in versions for lie in MUST[version])
    return tuple(lie for lie in must if not _holders(of, off, lie))


def require(endpoint: Endpoint, locks: Locks) -> None:
    """Raises Unenforced if the pod could send as somebody else."""
    lies = locks.unheld(endpoint)
    if lies:
        raise Unenforced(
            "set up a pod",
            errno=errno.EPERM,
            object=str(endpoint),
            detail=f"nobody would refuse {', '.join(lies)} from it ({locks.reasons()}); give the kernel "
            "nf_tables, or switch eBPF on (-bpf on)",
        )


def differences(endpoint: Endpoint, locks: Locks) -> tuple[Difference, ...]:
    """For CHECK: what nobody refuses by now."""
    return tuple(
        Difference(ObjectKind.ENFORCEMENT, f"{lie} from {endpoint}", f"nobody refuses it: {locks.reasons()}")
        for lie in locks.unheld(endpoint)
    )
