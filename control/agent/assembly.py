"""The use cases of one node over its ports: who is handed what. No decision is taken here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from control.agent.allocation.allocators import Allocators
from control.agent.allocation.broken import BrokenUplinks
from control.agent.allocation.cluster_id import ClusterId
from control.agent.allocation.exclusive import ExclusiveAllocator, ExclusiveSettings
from control.agent.allocation.operations import CloudWork, WorkSettings
from control.agent.allocation.orphans import Orphans
from control.agent.allocation.pool import Pool, PoolSettings
from control.agent.allocation.runner import OperationRunner
from control.agent.allocation.settling import Settling
from control.agent.allocation.vswitches import VSwitches
from control.agent.cni.attach import Attachments
from control.agent.cni.service import CniService
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import EndpointSettings, NodeKernel
from control.agent.dataplane.shaping import Shaping
from control.agent.introspection.metrics import Metrics
from control.agent.node_config import NodeConfig
from control.agent.reconcile.broken import BrokenWatch
from control.agent.reconcile.enis import Reconciler
from control.agent.reconcile.inventory import Inventory
from control.agent.reconcile.rebuild import Rebuild
from control.agent.reconcile.recovery import Recovery
from control.agent.reconcile.upkeep import Upkeep
from control.agent.state.faults import Faults
from control.agent.state.journal import Journal
from control.ipam.rejections import Rejections
from control.ipam.sizing import PoolSizes, ReclaimSettings
from control.model.clock import Clock
from control.model.cloud import Cloud, Metadata, NodeIdentity
from control.model.errors import TerwayError
from control.model.ids import SecurityGroupId, VSwitchId
from control.model.modes import NetworkMode, UplinkKind
from control.model.pod import EventType, Kubernetes
from control.process.timers import Timers


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside, and the clock."""

    journal: Journal
    cloud: Cloud
    metadata: Metadata
    kernel: NodeKernel
    holds: Holds
    kubernetes: Kubernetes
    clock: Clock
    timers: Timers
    metrics: Metrics
    shaping: Shaping
    faults: Faults


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how large: what the cloud said of this node."""

    identity: NodeIdentity
    sizes: PoolSizes
    groups: tuple[SecurityGroupId, ...]
    vswitches: tuple[VSwitchId, ...]


@dataclass(frozen=True, slots=True)
class Assembly:
    pool: Pool
    attachments: Attachments
    service: CniService
    recovery: Recovery
    upkeep: Upkeep
    rejections: Rejections
    broken_watch: BrokenWatch
    allocators: Allocators

    async def close(self) -> None:
        """No more calls to the cloud; who waits for an address is told."""
        await self.recovery.close()
        await self.broken_watch.close()
        await self.allocators.close()


def assemble(config: NodeConfig, ports: Ports, place: Place, mode: NetworkMode) -> Assembly:
    """``mode``: of the pods that come from now on."""
    conf, faults = config.eni, ports.faults
    instance_id, dual = place.identity.instance_id, place.sizes.dual
    endpoint_settings = EndpointSettings(mtu=config.mtu, extra_routes=conf.extra_routes)
    work = CloudWork(
        cloud=ports.cloud,
        metadata=ports.metadata,
        kernel=ports.kernel,
        holds=ports.holds,
        journal=ports.journal,
        faults=faults,
        settings=WorkSettings(instance_id, config.mtu, dual, config.tags, conf.resource_group_id),
        cluster=ClusterId(ports.journal, ports.kubernetes, told=config.settings.cluster_id),
    )
    orphans = Orphans(journal=ports.journal, work=work)
    rejections = Rejections()
    runner = _runner(config, ports, place, work, rejections)
    pool = _pool(config, ports, place, runner, rejections)
    exclusive = ExclusiveAllocator(
        journal=ports.journal,
        runner=runner,
        rejections=rejections,
        settings=ExclusiveSettings(place.sizes.max_enis, place.groups, dual),
    )
    allocators = Allocators({UplinkKind.SHARED_ENI: pool, UplinkKind.OWN_ENI: exclusive})
    broken = BrokenUplinks(journal=ports.journal, kernel=ports.kernel, rejections=rejections, mtu=config.mtu)
    attachments = Attachments(
        journal=ports.journal,
        allocators=allocators,
        broken=broken,
        kernel=ports.kernel,
        holds=ports.holds,
        kubernetes=ports.kubernetes,
        faults=faults,
        settings=endpoint_settings,
        dual=dual,
        annotate=conf.enable_patch_pod_ips,
        shaping=ports.shaping,
        mode=mode,
    )
    reconciler = Reconciler(
        journal=ports.journal,
        cloud=ports.cloud,
        metadata=ports.metadata,
        kernel=ports.kernel,
        holds=ports.holds,
        kubernetes=ports.kubernetes,
        work=work,
        instance_id=instance_id,
        tags=config.tags,
        mtu=config.mtu,
        dual=dual,
    )
    watch = BrokenWatch(
        journal=ports.journal,
        kernel=ports.kernel,
        kubernetes=ports.kubernetes,
        reconciler=reconciler,
        on_look=allocators.kick,
    )
    broken.on_broken = watch.follow
    rebuild = Rebuild(journal=ports.journal, holds=ports.holds, kubernetes=ports.kubernetes)
    inventory = Inventory(reconciler=reconciler, rebuild=rebuild, pool=pool, timers=ports.timers)
    recovery = Recovery(
        journal=ports.journal,
        attachments=attachments,
        kernel=ports.kernel,
        holds=ports.holds,
        kubernetes=ports.kubernetes,
        inventory=inventory,
        pool=pool,
        orphans=orphans,
        rebuild=rebuild,
        settings=endpoint_settings,
    )
    recovery.reports.on_repair = ports.metrics.repaired
    upkeep = Upkeep(
        journal=ports.journal,
        pool=pool,
        allocators=allocators,
        attachments=attachments,
        kernel=ports.kernel,
        kubernetes=ports.kubernetes,
        inventory=inventory,
        recovery=recovery,
        orphans=orphans,
        rebuild=rebuild,
        timers=ports.timers,
        sync_period=conf.pool.sync_period,
    )
    service = CniService(
        attachments=attachments,
        journal=ports.journal,
        kernel=ports.kernel,
        holds=ports.holds,
        mtu=config.mtu,
    )
    service.observe = ports.metrics.request
    return Assembly(pool, attachments, service, recovery, upkeep, rejections, watch, allocators)


def _runner(
    config: NodeConfig, ports: Ports, place: Place, work: CloudWork, rejections: Rejections
) -> OperationRunner:
    vswitches = VSwitches(
        ports.cloud,
        ports.clock,
        place.vswitches,
        zone=place.identity.zone,
        policy=config.eni.vswitch_policy,
    )
    settling = Settling(
        work=work,
        cloud=ports.cloud,
        metadata=ports.metadata,
        journal=ports.journal,
        instance_id=place.identity.instance_id,
        dual=place.sizes.dual,
    )
    runner = OperationRunner(
        journal=ports.journal, work=work, settling=settling, vswitches=vswitches, rejections=rejections
    )

    def failed(error: TerwayError) -> None:
        ports.metrics.allocation(ok=False)
        told = f"{error.cause}: {error}"
        ports.kubernetes.event(None, EventType.WARNING, "AllocIPFailed", told, topic=error.cause)

    runner.on_failure = failed
    runner.on_success = partial(ports.metrics.allocation, ok=True)
    return runner


def _pool(
    config: NodeConfig, ports: Ports, place: Place, runner: OperationRunner, rejections: Rejections
) -> Pool:
    return Pool(
        journal=ports.journal,
        runner=runner,
        cloud=ports.cloud,
        rejections=rejections,
        settings=PoolSettings(
            place.sizes,
            place.groups,
            config.eni.eni_policy,
            reclaim_settings(config),
            place.identity.instance_type,
            config.eni.pool.max_eni,
        ),
    )


def reclaim_settings(config: NodeConfig) -> ReclaimSettings | None:
    """None: idle addresses stay, which is what a duration or a batch of nothing asks for."""
    pool = config.eni.pool
    if pool.reclaim_after is None or not pool.reclaim_batch_size:
        return None
    return ReclaimSettings(pool.reclaim_after, pool.reclaim_interval, pool.reclaim_batch_size)
