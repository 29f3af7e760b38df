"""The mode that was asked for and the one in force, with the reason for each difference. Pure.

A fallback is never silent: the reasons go to the log, to a node event and to ``terway-cli mode``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cni.plugin import IpStack, VirtualType
from control.agent.assembly import Place
from control.agent.dataplane.fastpath import State, Status
from control.agent.node_config import NodeConfig
from control.ipam.sizing import PoolSizes
from control.model.cloud import InstanceLimits
from control.model.ids import Address
from control.model.modes import UPLINK_OF, NetworkMode, UplinkKind
from datapath.enforcement.locks import Lock, Locks
from datapath.modes.table import MODES

POLICY = (
    "NetworkPolicy is wanted (eni-config does not set disable_network_policy), and this agent enforces none "
    'by itself: set it to "true" if you need none or another engine does the work'
)


BUILT = {
    VirtualType.POLICY_ROUTE: NetworkMode.POLICY_ROUTE,
    VirtualType.MACVLAN: NetworkMode.MACVLAN,
}
"""What may be asked for and is there. Whoever asks for something else gets PolicyRoute, and is told."""


def network_mode(config: NodeConfig) -> NetworkMode:
    """The mode of pods that come from now on. Those that are there keep theirs."""
    return BUILT.get(config.cni.plugin.virtual_type, NetworkMode.POLICY_ROUTE)


def shared_sizes(mode: NetworkMode, sizes: PoolSizes) -> PoolSizes:
    """``sizes`` of the pool of shared ENIs on a node whose next pods are of ``mode``.

    Who has an ENI of its own takes none of its addresses: held idle they would only keep ENIs from such pods.
    """
    if UPLINK_OF[mode] is UplinkKind.SHARED_ENI:
        return sizes
    return replace(sizes, min_pool=0, max_pool=0)


def fallbacks(
    config: NodeConfig, limits: InstanceLimits, sizes: PoolSizes, *, ipv6: bool = True
) -> list[str]:
    """One sentence for each thing that was asked for and is not in force. ``ipv6``: the kernel has it."""
    asked, reasons = config.cni.plugin.virtual_type, []
    if asked not in BUILT:
        reasons.append(f"{asked} is asked for and not built yet: pods are routed (PolicyRoute)")
    if config.wants_dual and not ipv6:
        reasons.append(
            "ip_stack dual is asked for, but this node's kernel has no IPv6 (started with ipv6.disable=1, or "
            "built without): IPv4 only"
        )
    elif config.wants_dual and not sizes.dual:
        why = "has no IPv6" if not limits.ipv6_per_eni else "has fewer IPv6 than IPv4 addresses per ENI"
        reasons.append(f"ip_stack dual is asked for, but {limits.instance_type} {why}: IPv4 only")
    if config.wants_trunk and not limits.trunk_supported:
        reasons.append(f"Trunking not supported on instance type {limits.instance_type}")
    elif config.wants_trunk:
        reasons.append("trunking is asked for and not built yet: pods share ENIs")
    return reasons


def sizes_changed(config: NodeConfig, limits: InstanceLimits, sizes: PoolSizes) -> list[str]:
    """One sentence for each size of the pool that eni-config has otherwise."""
    pool, reasons = config.eni.pool, []
    enis = "1 ENI" if sizes.max_enis == 1 else f"{sizes.max_enis} ENIs"
    node = f"instance type {limits.instance_type}" + (f" with max_eni {pool.max_eni}" if pool.max_eni else "")
    if pool.min_eni > sizes.max_enis:
        reasons.append(
            f"min_eni {pool.min_eni} is more than the {enis} for pods of {node}, and counts as that"
        )
    if sizes.max_pool > pool.max_pool_size >= pool.min_pool_size:
        reasons.append(
            f"min_eni {pool.min_eni} holds {sizes.min_pool} idle addresses on {node}, more than "
            f"max_pool_size {pool.max_pool_size}, which counts as {sizes.max_pool}: "
            "raise max_pool_size or lower min_eni"
        )
    if pool.min_pool_size > sizes.capacity:
        reasons.append(
            f"min_pool_size {pool.min_pool_size} is more than the {sizes.capacity} addresses that {node} "
            "gives pods, and counts as that"
        )
    return reasons


def locks_of(mode: NetworkMode, unguarded: str, path: Status) -> Locks:
    """Who can refuse what a pod of the mode may not send. ``unguarded`` as ``LinuxKernel.unguarded``."""
    ebpf = "; ".join(path.because) if path.state is State.UNAVAILABLE else ""
    off = {Lock.EBPF: ebpf, Lock.NFTABLES: unguarded}
    return Locks(MODES[mode].locks, {lock: why for lock, why in off.items() if why})


def unchecked(locks: Locks) -> list[str]:
    """A sentence for what nobody refuses; none if somebody refuses everything."""
    lies = [lie for lie, who in locks.table().items() if not who]
    if not lies:
        return []
    why = f", because {locks.reasons()}" if locks.off else ""
    return [f"not checked of what pods send: {', '.join(lies)}{why}"]


def describe(
    config: NodeConfig, place: Place, host: Sequence[Address], because: Sequence[str], path: Status
) -> dict[str, Any]:
    """``terway-cli mode`` as JSON."""
    identity, fast = place.identity, path.state is State.ON
    asked = config.cni.plugin.virtual_type
    return {
        "daemon_mode": "ENIMultiIP",
        "asked": {
            "eniip_virtual_type": str(config.cni.plugin.virtual_type),
            "ip_stack": str(config.eni.ip_stack),
            "trunk_on": config.wants_trunk,
        },
        "in_force": {
            "eniip_virtual_type": str(asked if asked in BUILT else VirtualType.POLICY_ROUTE),
            "ip_stack": str(IpStack.DUAL if place.sizes.dual else IpStack.IPV4),
            "datapath": "eBPF" if fast else "kernel routing",
            "bpf": fast,
            "mtu": config.mtu,
            "pod_metadata": "closed" if config.closed_to_pods else "open",
        },
        "feature_sets": {one.name: str(one) for one in path.sets},
        "because": [*because, *path.because],
        "node": {
            "name": config.settings.node_name,
            "terway": config.settings.version or "from its source",
            "instance_id": identity.instance_id,
            "instance_type": identity.instance_type,
            "zone": identity.zone,
            "addresses": [str(a) for a in host],
        },
    }
