"""One node: its adapters, the order in which it starts, and its end. The composition root."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from control.agent import mode
from control.agent.assembly import Assembly, Place, Ports, assemble
from control.agent.cni.detach import Detachments
from control.agent.cni.service import CniService
from control.agent.dataplane.fastpath import FastPathSwitch
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.kernel import LinuxKernel
from control.agent.dataplane.ports import EndpointSettings
from control.agent.dataplane.shaping import Shaping
from control.agent.introspection.bpf_window import BpfWindow
from control.agent.introspection.fastpath_metrics import FastPathCollector
from control.agent.introspection.guard_metrics import GuardCollector
from control.agent.introspection.inspect import Inspector, NodeFacts
from control.agent.introspection.metrics import Metrics
from control.agent.introspection.node_metrics import NodeCollector
from control.agent.introspection.rejection_metrics import RejectionCollector
from control.agent.introspection.window import Window
from control.agent.node_config import NodeConfig
from control.agent.node_files import NodeFiles
from control.agent.reconcile.home_addresses import HomeAddresses
from control.agent.state.faults import Faults
from control.agent.state.journal import Journal
from control.agent.state.known import Known
from control.aliyun.cloud import AliyunCloud
from control.aliyun.credentials import CredentialSource, InstanceRole, MountedKey
from control.aliyun.metadata import AliyunMetadata
from control.aliyun.metadata_http import MetadataHttp
from control.aliyun.settings import CloudSettings, Observers
from control.config.credentials import with_secret_files
from control.ipam.statistics import PoolStats
from control.kube.adapter import KubernetesAdapter
from control.kube.connection import KubernetesConfig
from control.model.clock import SystemClock
from control.model.cloud import InstanceLimits, NodeIdentity
from control.model.errors import Cause, RequestError, TerwayError
from control.model.ids import Address, AttachmentKey, VSwitchId
from control.model.pod import EventType
from control.process.called_off import called_off
from control.process.http_api import HttpApi
from control.process.timers import Timers
from control.store.unread import UnreadLedger, open_ledger
from datapath.modes.port import Reaction

log = logging.getLogger(__name__)

LEDGER_FILE = "terway.db"
LIMITS_RETRY = 600.0
"""Seconds between two tries to learn an instance type's limits anew, while old ones serve."""


class Node:
    """Made by ``opened``; serves after ``start``."""

    def __init__(self, config: NodeConfig, why: Callable[[], str]) -> None:
        self._config = config
        self._clock = SystemClock()
        self._timers = Timers(self._clock)
        self._ledger = open_ledger(config.settings.state_directory / LEDGER_FILE)
        self._journal = Journal(self._ledger, self._clock, cooldown=config.eni.pool.cool_down)
        self._kernel = LinuxKernel()
        self._kernel.close_to_pods(config.closed_to_pods)
        self._faults = Faults(config.fault)
        self._kubernetes = KubernetesAdapter(
            KubernetesConfig(
                node=config.settings.node_name,
                kubeconfig=str(config.settings.kubeconfig or ""),
                service_cidrs=config.eni.service_cidr,
            ),
            self._clock,
        )
        self._holds = Holds(journal=self._journal, kernel=self._kernel, kubernetes=self._kubernetes)
        self._detachments = Detachments(
            journal=self._journal,
            kernel=self._kernel,
            holds=self._holds,
            faults=self._faults,
            settings=EndpointSettings(mtu=config.mtu, extra_routes=config.eni.extra_routes),
        )
        self.files = NodeFiles(config, self._journal, self._kubernetes)
        self._shaping = Shaping(lambda: self.files.conf_file.plugins)
        self._known = Known(self._journal)
        self._switch = FastPathSwitch(
            companion=self._kernel.accelerator,
            journal=self._journal,
            kubernetes=self._kubernetes,
            settings=config.settings,
            # The stack is who refuses what is closed.
            host_stack_cidrs=(*config.cni.plugin.host_stack_cidrs, *config.closed_to_pods),
            shaping=self._shaping,
        )
        self._assembly: Assembly | None = None
        self._inspector: Inspector | None = None
        self._metrics = Metrics(self._stats, self._eni_sizes, dual=config.wants_dual)
        self._metrics.registry.register(
            NodeCollector(self._journal, lambda: asdict(self._kubernetes.counts().outbox), self.files.keeper)
        )
        self._metrics.registry.register(FastPathCollector(self._switch, self._journal.book.pod_of))
        self._metrics.registry.register(GuardCollector(self._kernel.guard_counts))
        self._http = MetadataHttp(
            _host_and_port(config.settings.metadata_url), clock=self._clock, observe=self._metrics.metadata
        )
        self._metadata = AliyunMetadata(self._http)
        self._cloud: AliyunCloud | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._api = HttpApi(
            f"unix://{config.settings.debug_socket}", asyncio.get_running_loop(), self._metrics.registry
        )
        self._api.ready = why
        self.files.keeper.add(self._api)
        self._health = self._health_api(config.settings.health_listen, why)
        self._why = why
        window = Window(
            self._shown,
            metadata=self._metadata,
            kernel=self._kernel,
            known=self._known,
            timers=self._timers,
            switch=self._switch,
            write_schema_1=self._ledger.write_schema_1,
        )
        window.register(self._api, test_clock=config.test_clock)
        BpfWindow(self._switch.fast, self._name_of).register(self._api)

    def _health_api(self, listen: str, why: Callable[[], str]) -> HttpApi | None:
        """Health, readiness and metrics, and no more: whoever reaches it may not change anything."""
        if not listen:
            return None
        api = HttpApi(listen, asyncio.get_running_loop(), self._metrics.registry)
        api.ready = why
        return api

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, config: NodeConfig, why: Callable[[], str]) -> AsyncIterator[Node]:
        """``why`` says why no pod can be served, "" if it can: the readiness probe's answer."""
        node = cls(config, why)
        node._api.start()
        if node._health is not None:
            node._health.start()
        node._kubernetes.start()
        try:
            yield node
        finally:
            await node._close()

    async def _close(self) -> None:
        await called_off(*self._tasks)
        await self.stop_working()
        if self._cloud is not None:
            await self._cloud.close()
        await self._metadata.close()
        await self._kubernetes.close()
        self._api.stop()
        if self._health is not None:
            self._health.stop()
        self._kernel.close()
        self._switch.close()
        self._ledger.close()

    async def stop_working(self) -> None:
        """No more calls to the cloud; who waits for an address is told. ``opened`` closes the rest."""
        if self._assembly is not None:
            await self._assembly.close()

    def detach(self, key: AttachmentKey, netns: int | None) -> None:
        """DEL before the start has ended, which it needs nothing of. Raises KernelError."""
        self._detachments.delete(key, netns)

    def trouble(self) -> str:
        """Why ADDs fail, or do not come, although the node serves; "" if all is well."""
        return str(self._journal.trouble or "") or self.files.keeper.trouble()

    async def pause(self, seconds: float) -> None:
        await self._timers.sleep(seconds)

    async def keep_files(self) -> None:
        """For as long as the node lives. Raises MustRestart."""
        await self.files.keeper.run(self._timers)

    # The start, in steps that may be tried again.

    async def start(self, boot_id: str) -> None:
        """Raises TerwayError if somebody else holds the start up; call it again then."""
        self._journal.probe()
        if isinstance(self._ledger, UnreadLedger):
            self._ledger.look_again()
        identity = await self._known.identity(self._metadata)
        cloud = self._connect(identity)
        limits = await self._known.limits(cloud, identity.instance_type)
        network_mode = mode.network_mode(self._config)
        sizes = mode.shared_sizes(network_mode, self._config.sizes(limits, ipv6=self._kernel.has_ipv6()))
        self._switch.open()
        home = HomeAddresses(
            kernel=self._kernel,
            metadata=self._metadata,
            journal=self._journal,
            mac=identity.mac,
            dual=sizes.dual,
        )
        self._kernel.prepare_node(identity.mac, await home.learn(), ipv6=sizes.dual)
        home.on_change = self._kernel.host_addresses
        place = Place(
            identity,
            sizes,
            self._config.eni.security_groups or await self._known.primary_groups(cloud, identity),
            self._config.eni.vswitches.get(identity.zone) or (VSwitchId(identity.vswitch_id),),
        )
        assembly = assemble(self._config, self._ports(cloud), place, network_mode)
        assembly.upkeep.follow_facts = home.follow
        assembly.recovery.reports.on_round = self._switch.tell_foreign
        try:
            await assembly.recovery.run(boot_id)
        except BaseException:
            await assembly.close()
            raise
        self._assembly = assembly
        self._metrics.registry.register(RejectionCollector(assembly.rejections, self._clock))
        self._tell_of_the_ledger()
        self._kernel.watch(partial(self._reacted, assembly))
        await self._switch.settle()
        self._tasks = (
            asyncio.create_task(assembly.upkeep.run(), name="upkeep"),
            asyncio.create_task(self._switch.run(), name="fastpath"),
            asyncio.create_task(self._renew_limits(cloud, limits), name="limits"),
        )
        because = self._say(limits, place)
        self._inspector = self._inspector_of(assembly, cloud, (place, limits), home, because)

    async def _renew_limits(self, cloud: AliyunCloud, serving: InstanceLimits) -> None:
        """Ask for limits that have grown old until the cloud answers; pods do not wait for it."""
        while self._known.limits_are_old():
            try:
                limits = await self._known.new_limits(cloud, serving.instance_type)
            except TerwayError as exc:
                log.warning("the old limits of %s serve on: %s", serving.instance_type, exc)
                await self._timers.sleep(LIMITS_RETRY)
                continue
            if limits != serving:
                told = (
                    f"the limits of {serving.instance_type} are now {limits}, and were {serving}: "
                    "terwayd goes by them once it is restarted"
                )
                log.warning("%s", told)
                self._kubernetes.event(None, EventType.WARNING, "InstanceLimitsChanged", told)

    @property
    def service(self) -> CniService:
        """Only after ``start``."""
        assert self._assembly is not None
        return self._assembly.service

    def _ports(self, cloud: AliyunCloud) -> Ports:
        return Ports(
            journal=self._journal,
            cloud=cloud,
            metadata=self._metadata,
            kernel=self._kernel,
            holds=self._holds,
            kubernetes=self._kubernetes,
            clock=self._clock,
            timers=self._timers,
            metrics=self._metrics,
            shaping=self._shaping,
            faults=self._faults,
        )

    def _connect(self, identity: NodeIdentity) -> AliyunCloud:
        if self._cloud is None:
            told, conf = self._config.settings, self._config.eni
            self._cloud = AliyunCloud(
                CloudSettings(
                    region=conf.region_id or identity.region,
                    ecs_endpoint=told.ecs_endpoint,
                    vpc_endpoint=told.vpc_endpoint,
                    scheme=told.api_scheme,
                    rate_limit=conf.api.rate_limit,
                ),
                self._credentials(),
                self._clock,
                Observers(
                    openapi=self._metrics.openapi,
                    rate_limit=lambda api, _error, seconds: self._metrics.limiter(api, seconds),
                ),
            )
        return self._cloud

    def _credentials(self) -> CredentialSource:
        def key() -> tuple[str, str]:
            found = with_secret_files(self._config.eni.credentials, self._config.settings.secret_directory)
            return found.access_key, found.access_secret

        if self._config.credentials.has_key:
            return MountedKey(key)
        return InstanceRole(self._http.text, self._clock)

    # What is said.

    def _tell_of_the_ledger(self) -> None:
        """A ledger that was not what a start expects. What runs without a record ``Holds`` tells."""
        aside = self._ledger.moved_aside
        for text in (
            aside,
            self._known.disowned,
        ):
            if text:
                log.warning("%s", text)
                self._kubernetes.event(None, EventType.WARNING, "LedgerLost", text)

    def _say(self, limits: InstanceLimits, place: Place) -> list[str]:
        """Fallbacks to the log and to a node event, warnings of the configuration to the log."""
        because = mode.fallbacks(self._config, limits, place.sizes, ipv6=self._kernel.has_ipv6())
        for reason in because:
            log.warning("%s", reason)
            self._kubernetes.event(None, EventType.WARNING, "VirtualModeChanged", reason)
        for warning in self._config.warnings:
            log.warning("configuration: %s", warning)
        for warning in self._config.cni.warnings:
            self._kubernetes.event(None, EventType.WARNING, "CniConfiguration", warning)
        for reason in mode.sizes_changed(self._config, limits, place.sizes):
            log.warning("configuration: %s", reason)
            self._kubernetes.event(None, EventType.WARNING, "PoolSizeChanged", reason)
        if self._config.wants_policy:
            because.append(mode.POLICY)
            self._say_once(mode.POLICY, "NetworkPolicyNotEnforced")
        return because

    def _say_once(self, text: str, reason: str) -> None:
        """Once in the life of a node; ``mode`` goes on showing it."""
        if self._journal.facts.get(reason) != "said":
            log.warning("%s", text)
            self._kubernetes.event(None, EventType.WARNING, reason, text)
            self._journal.note(reason, "said")

    def _inspector_of(
        self,
        assembly: Assembly,
        cloud: AliyunCloud,
        found: tuple[Place, InstanceLimits],
        home: HomeAddresses,
        because: Sequence[str],
    ) -> Inspector:
        place, limits = found
        told, sizes = self._config.settings, place.sizes
        facts = NodeFacts(
            config_path=str(told.eni_conf),
            kubeconfig=str(told.kubeconfig or ""),
            identity=place.identity,
            per_eni=sizes.per_eni,
            max_enis=sizes.max_enis,
            min_idle=sizes.min_pool,
            max_idle=sizes.max_pool,
            vswitches=place.vswitches,
            vswitch_policy=str(self._config.eni.vswitch_policy),
            mode=lambda: self._mode(place, home.own, (*because, *self.files.notices)),
            warnings=(
                *self._config.warnings,
                *mode.sizes_changed(self._config, limits, sizes),
            ),
        )
        return Inspector(
            journal=self._journal,
            cloud=cloud,
            pool=assembly.pool,
            rejections=assembly.rejections,
            attachments=assembly.attachments,
            holds=self._holds,
            kubernetes=self._kubernetes,
            reports=assembly.recovery.reports,
            facts=facts,
        )

    def _reacted(self, assembly: Assembly, reaction: Reaction) -> None:
        """The kernel has told of what somebody else did."""
        assembly.recovery.reports.mended(reaction.mended, at_once=True)
        if reaction.repair:
            assembly.upkeep.rounds.is_due()

    def _mode(self, place: Place, host: Sequence[Address], because: Sequence[str]) -> dict[str, Any]:
        """``terway-cli mode``: what is in force, and who checks what pods send."""
        status, unguarded = self._switch.status(), self._kernel.unguarded()
        locks = mode.locks_of(mode.network_mode(self._config), unguarded, status)
        reasons = [*because, *mode.unchecked(locks)]
        answer = mode.describe(self._config, place, host, reasons, status)
        answer["checks"] = locks.table()
        answer["refused"] = {reason: count for reason, (count, _) in self._kernel.guard_counts().items()}
        return answer

    def _stats(self) -> PoolStats:
        return self._assembly.pool.stats() if self._assembly else PoolStats(0, 0, 0, 0, 0, 0, 0, 0, 0)

    def _eni_sizes(self) -> dict[str, int]:
        book = self._journal.book
        return {str(e.mac): book.size_of(e.eni_id) for e in book.enis.values()}

    def _name_of(self, address: Address) -> str:
        return str(self._journal.book.pod_of(address) or "")

    def _shown(self) -> Inspector:
        if self._inspector is None:
            raise RequestError(f"terwayd is not ready yet: {self._why()}", cause=Cause.BUSY)
        return self._inspector


def _host_and_port(url: str) -> str:
    return url.removeprefix("http://").split("/")[0]
