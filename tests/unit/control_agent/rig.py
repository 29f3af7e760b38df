"""A node without a kernel: the real use cases, ledger contract and pool over fakes of everything outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

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
from control.agent.cni.attach import AddRequest, Attached, Attachments
from control.agent.dataplane.fake_kernel import FakeKernel
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import EndpointSettings
from control.agent.reconcile.broken import BrokenWatch
from control.agent.reconcile.enis import Reconciler
from control.agent.reconcile.inventory import Inventory
from control.agent.reconcile.rebuild import Rebuild
from control.agent.reconcile.recovery import BOOT_ID, Recovery
from control.agent.state.faults import Faults
from control.agent.state.journal import Journal
from control.aliyun.fake import FakeAccount, FakeCloud, FakeMetadata
from control.ipam.rejections import Rejections
from control.ipam.sizing import pool_sizes
from control.kube.fake import FakeKubernetes
from control.model.clock import SystemClock
from control.model.cloud import InstanceLimits, NodeIdentity, VSwitch
from control.model.ids import AttachmentKey, InstanceId, Mac, PodKey, SecurityGroupId, VSwitchId
from control.model.modes import NetworkMode, UplinkKind
from control.model.pod import Pod
from control.model.policies import VSwitchPolicy
from control.process.timers import Timers
from control.store.memory import MemoryLedger

NODE = NodeIdentity(
    InstanceId("i-node1"),
    "ecs.g7.xlarge",
    "cn-hangzhou",
    "cn-hangzhou-a",
    VSwitchId("vsw-nodes"),
    Mac("00:16:3e:ff:00:01"),
)
LIMITS = InstanceLimits("ecs.g7.xlarge", 4, 15, 15, 6, True)
PODS_VSWITCH = VSwitchId("vsw-pods")
NODES_VSWITCH = VSwitchId("vsw-nodes")
TAGS = (("creator", "terway"),)


@dataclass
class Rig:
    """One daemon over state that outlives it: ``restarted()`` is the next daemon on the same node."""

    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    kernel: FakeKernel = field(default_factory=FakeKernel)
    kubernetes: FakeKubernetes = field(default_factory=FakeKubernetes)
    clock: SystemClock = field(default_factory=SystemClock)
    min_pool: int = 0
    max_pool: int = 5
    dual: bool = False
    vswitches: tuple[VSwitchId, ...] = (PODS_VSWITCH,)
    account: FakeAccount | None = None
    mode: NetworkMode = NetworkMode.POLICY_ROUTE
    cloud: FakeCloud = field(init=False)

    def __post_init__(self) -> None:
        self.timers = Timers(self.clock)
        if self.account is None:
            vswitches = (
                VSwitch(VSwitchId("vsw-nodes"), NODE.zone, IPv4Network("10.0.0.0/24"), 200),
                VSwitch(
                    PODS_VSWITCH, NODE.zone, IPv4Network("10.0.1.0/24"), 200, IPv6Network("2001:db8::/64")
                ),
            )
            self.account = FakeAccount(
                self.clock, {v.vswitch_id: v for v in vswitches}, {LIMITS.instance_type: LIMITS}
            )
            self.account.add_instance(NODE)
        if not self.ledger.load().facts:
            self.ledger.remember(BOOT_ID, "boot-1")
        self.cloud = FakeCloud(self.account)
        self.metadata = FakeMetadata(self.account, NODE)
        self.journal = Journal(self.ledger, self.clock, cooldown=30.0)
        self.holds = Holds(journal=self.journal, kernel=self.kernel, kubernetes=self.kubernetes)
        self.work = CloudWork(
            cloud=self.cloud,
            metadata=self.metadata,
            kernel=self.kernel,
            holds=self.holds,
            journal=self.journal,
            faults=Faults(),
            settings=WorkSettings(NODE.instance_id, dual=self.dual, tags=TAGS),
            cluster=ClusterId(self.journal, self.kubernetes),
        )
        self.settling = Settling(
            work=self.work,
            cloud=self.cloud,
            metadata=self.metadata,
            journal=self.journal,
            instance_id=NODE.instance_id,
            dual=self.dual,
        )
        self.orphans = Orphans(journal=self.journal, work=self.work)
        sizes = pool_sizes(LIMITS, min_pool=self.min_pool, max_pool=self.max_pool, dual=self.dual)
        self.rejections = Rejections()
        self.runner = OperationRunner(
            journal=self.journal,
            work=self.work,
            settling=self.settling,
            vswitches=VSwitches(
                self.cloud, self.clock, self.vswitches, zone=NODE.zone, policy=VSwitchPolicy.MOST
            ),
            rejections=self.rejections,
        )
        self.pool = Pool(
            journal=self.journal,
            runner=self.runner,
            cloud=self.cloud,
            rejections=self.rejections,
            settings=PoolSettings(sizes, (SecurityGroupId("sg-cluster"),)),
        )
        self.exclusive = ExclusiveAllocator(
            journal=self.journal,
            runner=self.runner,
            rejections=self.rejections,
            settings=ExclusiveSettings(sizes.max_enis, (SecurityGroupId("sg-cluster"),), self.dual),
        )
        self.allocators = Allocators({UplinkKind.SHARED_ENI: self.pool, UplinkKind.OWN_ENI: self.exclusive})
        self.broken = BrokenUplinks(
            journal=self.journal, kernel=self.kernel, rejections=self.rejections, mtu=1500
        )
        self.attachments = Attachments(
            journal=self.journal,
            allocators=self.allocators,
            broken=self.broken,
            kernel=self.kernel,
            holds=self.holds,
            kubernetes=self.kubernetes,
            faults=Faults(),
            settings=EndpointSettings(),
            dual=self.dual,
            mode=self.mode,
        )
        self.reconciler = Reconciler(
            journal=self.journal,
            cloud=self.cloud,
            metadata=self.metadata,
            kernel=self.kernel,
            holds=self.holds,
            kubernetes=self.kubernetes,
            work=self.work,
            instance_id=NODE.instance_id,
            tags=TAGS,
            mtu=1500,
            dual=self.dual,
        )
        self.watch = BrokenWatch(
            journal=self.journal,
            kernel=self.kernel,
            kubernetes=self.kubernetes,
            reconciler=self.reconciler,
            on_look=self.allocators.kick,
        )
        self.broken.on_broken = self.watch.follow
        self.rebuild = Rebuild(journal=self.journal, holds=self.holds, kubernetes=self.kubernetes)
        self.inventory = Inventory(
            reconciler=self.reconciler, rebuild=self.rebuild, pool=self.pool, timers=self.timers
        )
        self.recovery = Recovery(
            journal=self.journal,
            attachments=self.attachments,
            kernel=self.kernel,
            holds=self.holds,
            kubernetes=self.kubernetes,
            inventory=self.inventory,
            pool=self.pool,
            orphans=self.orphans,
            rebuild=self.rebuild,
            settings=EndpointSettings(),
        )

    async def restarted(self, *, reboot: bool = False, mode: NetworkMode | None = None) -> Rig:
        """The next daemon: memory is gone, what it wrote is there. ``reboot``: the kernel's objects too."""
        await self.watch.close()
        await self.allocators.close()
        if reboot:
            self.kernel.endpoints.clear()
            self.kernel.enis.clear()
        new = Rig(
            ledger=self.ledger,
            kernel=self.kernel,
            kubernetes=self.kubernetes,
            clock=self.clock,
            min_pool=self.min_pool,
            max_pool=self.max_pool,
            dual=self.dual,
            vswitches=self.vswitches,
            account=self.account,
            mode=self.mode if mode is None else mode,
        )
        await new.recovery.run("boot-2" if reboot else "boot-1")
        return new

    def knows(self, name: str, uid: str = "") -> PodKey:
        key = PodKey("default", name)
        self.kubernetes.put_pod(Pod(key, uid or f"uid-{name}", "node1"))
        return key

    async def add(self, name: str, *, container: str = "", uid: str = "") -> Attached:
        pod = self.knows(name, uid)
        key = AttachmentKey(container or f"c-{name}", "eth0")
        return await self.attachments.add(AddRequest(key, pod, "", "/run/netns/x", 0))

    async def delete(self, name: str, *, container: str = "") -> None:
        await self.attachments.delete(AttachmentKey(container or f"c-{name}", "eth0"), None)

    async def settle(self) -> None:
        """Until nothing is under way."""
        async with asyncio.timeout(10):
            while not self.pool.settled:
                await asyncio.sleep(0.001)

    def in_cloud(self) -> frozenset[IPv4Address]:
        """Every address the cloud has on secondary ENIs of this node."""
        assert self.account is not None
        return frozenset(a for e in self.account.enis().values() if e.mac != NODE.mac for a in e.ipv4)

    def assert_agree(self) -> None:
        """Ledger, cloud and kernel tell one story."""
        book = self.journal.book
        assert {a for a in book.addresses if a.version == 4} == self.in_cloud()
        assert not book.operations
        ready = {a.host_link: a.key.container_id for a in book.attachments.values()}
        assert self.kernel.pod_links() == ready
        held = {a for r in book.attachments.values() for a in r.addresses()}
        assert {r.address for r in book.addresses.values() if r.owner} == held
        assert self.kernel.enis == {e.mac for e in book.enis.values()}
