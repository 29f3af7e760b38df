"""One node put together: adapters behind ports, use cases over them, and the order in which they start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from cni.plugin import IpStack, VirtualType
from control.aliyun.cloud import AliyunCloud
from control.aliyun.credentials import AccessKey, CredentialSource, InstanceRole
from control.aliyun.metadata import AliyunMetadata
from control.aliyun.metadata_http import MetadataHttp
from control.aliyun.settings import CloudSettings, Observers
from control.config.cni_conf import NodeCniConf
from control.config.credentials import Credentials
from control.config.eni_conf import EniConf
from control.config.settings import Settings
from control.daemon.attach import Attachments
from control.daemon.cni_service import CniService
from control.daemon.faults import Faults
from control.daemon.http_api import HttpApi
from control.daemon.inspect import FACTORY, SERVICE, Inspector, NodeFacts
from control.daemon.journal import Journal
from control.daemon.kernel import PolicyRouteKernel
from control.daemon.metrics import Metrics
from control.daemon.operations import CloudWork, WorkSettings
from control.daemon.pool import Pool, PoolSettings, PoolStats
from control.daemon.ports import EndpointSettings
from control.daemon.reconcile import Reconciler
from control.daemon.recovery import Recovery
from control.daemon.timers import Timers
from control.daemon.upkeep import Upkeep
from control.daemon.vswitches import VSwitches
from control.ipam.sizing import PoolSizes, ReclaimSettings, pool_sizes
from control.kube.adapter import KubernetesAdapter
from control.kube.connection import KubernetesConfig
from control.model.clock import SystemClock
from control.model.cloud import InstanceLimits, MetadataEni, NodeIdentity
from control.model.errors import Cause, ConfigError, MetadataError, RequestError, TerwayError
from control.model.ids import AttachmentKey, InstanceId, Mac, SecurityGroupId, VSwitchId
from control.model.pod import EventType
from control.store.ledger import SqliteLedger

log = logging.getLogger(__name__)

LEDGER_FILE = "terway.db"
LIMITS_AGE = 15 * 24 * 3600.0
"""Seconds an instance type's limits are believed, as upstream's daemon does."""
IDENTITY, LIMITS, GROUPS = "identity", "limits", "primary_groups"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything the operator told. ``fault`` and ``test_clock`` are for tests and off otherwise."""

    settings: Settings
    eni: EniConf
    cni: NodeCniConf
    credentials: Credentials
    fault: str = ""
    test_clock: bool = False

    @property
    def mtu(self) -> int:
        return self.cni.plugin.mtu

    @property
    def wants_dual(self) -> bool:
        return self.eni.ip_stack is IpStack.DUAL


class Node:
    """Made by ``opened``; serves after ``start``."""

    service: CniService

    def __init__(self, config: NodeConfig, why: Callable[[], str]) -> None:
        self._config = config
        self._clock = SystemClock()
        self._timers = Timers(self._clock)
        self._ledger = SqliteLedger(config.settings.state_directory / LEDGER_FILE)
        self._journal = Journal(self._ledger, self._clock, cooldown=config.eni.pool.cool_down)
        self._kernel = PolicyRouteKernel()
        self._kubernetes = KubernetesAdapter(
            KubernetesConfig(
                node=config.settings.node_name,
                kubeconfig=str(config.settings.kubeconfig or ""),
            ),
            self._clock,
        )
        self._pool: Pool | None = None
        self._inspector: Inspector | None = None
        self._metrics = Metrics(self._stats, self._eni_sizes, dual=config.wants_dual)
        self._http = MetadataHttp(
            _host_and_port(config.settings.metadata_url), clock=self._clock, observe=self._metrics.metadata
        )
        self._metadata = AliyunMetadata(self._http)
        self._cloud: AliyunCloud | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._api = HttpApi(
            f"unix://{config.settings.debug_socket}", asyncio.get_running_loop(), self._metrics.registry
        )
        self._api.ready = why
        self._why = why

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, config: NodeConfig, why: Callable[[], str]) -> AsyncIterator[Node]:
        """``why`` says why no pod can be served, "" if it can: the readiness probe's answer."""
        node = cls(config, why)
        node._routes()
        node._api.start()
        node._kubernetes.start()
        try:
            yield node
        finally:
            await node._close()

    async def _close(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self.stop_working()
        if self._cloud is not None:
            await self._cloud.close()
        await self._metadata.close()
        await self._kubernetes.close()
        self._api.stop()
        self._kernel.close()
        self._ledger.close()

    async def stop_working(self) -> None:
        """No more calls to the cloud; who waits for an address is told. ``opened`` closes the rest."""
        if self._pool is not None:
            await self._pool.close()

    def holds(self, key: AttachmentKey) -> bool:
        """The ledger has an attachment of this name."""
        return key in self._journal.book.attachments

    async def pause(self, seconds: float) -> None:
        await self._timers.sleep(seconds)

    # The start, in steps that may be tried again.

    async def start(self, boot_id: str) -> None:
        """Raises TerwayError if somebody else holds the start up; call it again then."""
        identity = await self._identity()
        cloud = self._connect(identity)
        limits = await self._limits(cloud, identity)
        sizes = self._sizes(limits)
        host = self._kernel.prepare_node(identity.mac, dual=sizes.dual)
        groups = await self._groups(cloud, identity)
        pool, recovery, upkeep = self._assemble(cloud, identity, sizes, groups)
        try:
            await recovery.run(boot_id)
        except TerwayError:
            await pool.close()
            raise
        self._pool = pool
        self._upkeep = asyncio.create_task(upkeep.run(), name="upkeep")
        self._say_mode(identity, limits, sizes, host)

    async def _identity(self) -> NodeIdentity:
        """From metadata; if that is away, from what it said before the last restart."""
        try:
            identity = await self._metadata.identity()
        except MetadataError:
            known = self._journal.facts.get(IDENTITY)
            if known is None:
                raise
            return NodeIdentity(**json.loads(known))
        self._journal.remember(IDENTITY, json.dumps(asdict(identity)))
        return identity

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
        key = self._config.credentials
        if key.has_key:
            return AccessKey(key.access_key, key.access_secret)
        return InstanceRole(self._http.text, self._clock)

    async def _limits(self, cloud: AliyunCloud, identity: NodeIdentity) -> InstanceLimits:
        known = json.loads(self._journal.facts.get(LIMITS, "{}"))
        if known.get("type") == identity.instance_type and self._clock.now() - known["at"] < LIMITS_AGE:
            return InstanceLimits(**known["limits"])
        limits = await cloud.instance_limits(identity.instance_type)
        fact = {"type": identity.instance_type, "at": self._clock.now(), "limits": asdict(limits)}
        self._journal.remember(LIMITS, json.dumps(fact))
        return limits

    def _sizes(self, limits: InstanceLimits) -> PoolSizes:
        pool = self._config.eni.pool
        sizes = pool_sizes(
            limits,
            min_pool=pool.min_pool_size,
            max_pool=pool.max_pool_size,
            max_eni=pool.max_eni,
            min_eni=pool.min_eni,
            ratio=pool.cap_ratio,
            shift=pool.cap_shift,
            dual=self._config.wants_dual,
        )
        if sizes.max_enis == 0:
            raise ConfigError(
                f"instance type {limits.instance_type} with {limits.eni_quantity} ENIs leaves none for pods "
                f"(eni_cap_ratio {pool.cap_ratio:g}, eni_cap_shift {pool.cap_shift}, max_eni {pool.max_eni})",
                remedy="use a larger instance type or loosen these settings",
            )
        return sizes

    async def _groups(self, cloud: AliyunCloud, identity: NodeIdentity) -> tuple[SecurityGroupId, ...]:
        """Those configured, else the primary ENI's, which are asked for once and remembered."""
        if self._config.eni.security_groups:
            return self._config.eni.security_groups
        known = self._journal.facts.get(GROUPS)
        if known is None:
            enis = await cloud.enis_of_instance(identity.instance_id)
            primary = [e for e in enis if e.mac == identity.mac]
            if not primary or not primary[0].security_groups:
                raise ConfigError(
                    f"the primary ENI of {identity.instance_id} shows no security group",
                    remedy="set security_group in eni-config",
                )
            known = json.dumps(primary[0].security_groups)
            self._journal.remember(GROUPS, known)
        return tuple(SecurityGroupId(g) for g in json.loads(known))

    def _assemble(
        self,
        cloud: AliyunCloud,
        identity: NodeIdentity,
        sizes: PoolSizes,
        groups: tuple[SecurityGroupId, ...],
    ) -> tuple[Pool, Recovery, Upkeep]:
        conf, journal, kernel = self._config.eni, self._journal, self._kernel
        tags = tuple(sorted(conf.eni_tags.items()))
        faults = Faults(self._config.fault)
        work = CloudWork(
            cloud=cloud,
            metadata=self._metadata,
            kernel=kernel,
            journal=journal,
            faults=faults,
            settings=WorkSettings(
                identity.instance_id, self._config.mtu, sizes.dual, tags, conf.resource_group_id
            ),
        )
        vswitches = conf.vswitches.get(identity.zone) or (VSwitchId(identity.vswitch_id),)
        pool = Pool(
            journal=journal,
            work=work,
            cloud=cloud,
            vswitches=VSwitches(
                cloud, self._clock, vswitches, zone=identity.zone, policy=conf.vswitch_policy
            ),
            settings=PoolSettings(sizes, groups, conf.eni_policy, self._reclaim()),
        )
        pool.on_failure = self._tell_failure
        pool.on_success = partial(self._metrics.allocation, ok=True)
        endpoint_settings = EndpointSettings(mtu=self._config.mtu, extra_routes=conf.extra_routes)
        attachments = Attachments(
            journal=journal,
            pool=pool,
            kernel=kernel,
            kubernetes=self._kubernetes,
            faults=faults,
            settings=endpoint_settings,
            dual=sizes.dual,
            annotate=conf.enable_patch_pod_ips,
        )
        reconciler = Reconciler(
            journal=journal,
            cloud=cloud,
            metadata=self._metadata,
            kernel=kernel,
            kubernetes=self._kubernetes,
            work=work,
            instance_id=InstanceId(identity.instance_id),
            tags=tags,
            mtu=self._config.mtu,
            dual=sizes.dual,
        )
        recovery = Recovery(
            journal=journal,
            attachments=attachments,
            kernel=kernel,
            reconciler=reconciler,
            pool=pool,
            settings=endpoint_settings,
        )
        upkeep = Upkeep(
            journal=journal,
            pool=pool,
            attachments=attachments,
            kernel=kernel,
            kubernetes=self._kubernetes,
            reconciler=reconciler,
            recovery=recovery,
            timers=self._timers,
            sync_period=conf.pool.sync_period,
        )
        self.service = CniService(
            attachments=attachments, journal=journal, kernel=kernel, mtu=self._config.mtu
        )
        self.service.observe = self._metrics.request
        self._attachments = attachments
        self._vswitch_ids = vswitches
        self._identity_known = identity
        return pool, recovery, upkeep

    def _reclaim(self) -> ReclaimSettings | None:
        pool = self._config.eni.pool
        if pool.reclaim_after is None:
            return None
        return ReclaimSettings(pool.reclaim_after, pool.reclaim_interval, pool.reclaim_batch_size)

    # What is said.

    def _tell_failure(self, error: TerwayError) -> None:
        self._metrics.allocation(ok=False)
        self._kubernetes.event(None, EventType.WARNING, "AllocIPFailed", f"{error.cause}: {error}")

    def _say_mode(
        self, identity: NodeIdentity, limits: InstanceLimits, sizes: PoolSizes, host: tuple[Any, ...]
    ) -> None:
        asked, reasons = self._config.cni.plugin.virtual_type, []
        if asked is not VirtualType.POLICY_ROUTE:
            reasons.append(f"{asked} is asked for and not built yet: pods are routed (PolicyRoute)")
        if self._config.wants_dual and not sizes.dual:
            why = "has no IPv6" if not limits.ipv6_per_eni else "has fewer IPv6 than IPv4 addresses per ENI"
            reasons.append(f"ip_stack dual is asked for, but {limits.instance_type} {why}: IPv4 only")
        if self._config.eni.trunk.enabled and not limits.trunk_supported:
            reasons.append(f"Trunking not supported on instance type {limits.instance_type}")
        elif self._config.eni.trunk.enabled or self._config.cni.plugin.trunk_on:
            reasons.append("trunking is asked for and not built yet: pods share ENIs")
        for reason in reasons:
            log.warning("%s", reason)
            self._kubernetes.event(None, EventType.WARNING, "VirtualModeChanged", reason)
        told = self._config.settings
        mode = {
            "daemon_mode": "ENIMultiIP",
            "asked": {
                "eniip_virtual_type": str(asked),
                "ip_stack": str(self._config.eni.ip_stack),
                "trunk_on": self._config.eni.trunk.enabled or self._config.cni.plugin.trunk_on,
            },
            "in_force": {
                "eniip_virtual_type": str(VirtualType.POLICY_ROUTE),
                "ip_stack": str(IpStack.DUAL if sizes.dual else IpStack.IPV4),
                "datapath": "kernel routing",
                "bpf": False,
                "mtu": self._config.mtu,
            },
            "because": reasons,
            "node": {
                "name": told.node_name,
                "instance_id": identity.instance_id,
                "instance_type": identity.instance_type,
                "zone": identity.zone,
                "addresses": [str(a) for a in host],
            },
        }
        warnings = (*self._config.eni.warnings, *self._config.cni.warnings)
        for warning in warnings:
            log.warning("configuration: %s", warning)
        assert self._pool is not None
        self._inspector = Inspector(
            journal=self._journal,
            pool=self._pool,
            attachments=self._attachments,
            facts=NodeFacts(
                config_path=str(told.eni_conf),
                kubeconfig=str(told.kubeconfig or ""),
                instance_type=identity.instance_type,
                per_eni=sizes.per_eni,
                max_enis=sizes.max_enis,
                min_idle=sizes.min_pool,
                max_idle=sizes.max_pool,
                vswitches=tuple(self._vswitch_ids),
                vswitch_policy=str(self._config.eni.vswitch_policy),
                mode=mode,
                warnings=warnings,
            ),
        )

    # The window.

    def _stats(self) -> PoolStats:
        return self._pool.stats() if self._pool is not None else PoolStats(0, 0, 0, 0, 0, 0, 0, 0, 0)

    def _eni_sizes(self) -> dict[str, int]:
        book = self._journal.book
        return {str(e.mac): sum(1 for _ in book.of_eni(e.eni_id)) for e in book.enis.values()}

    def _shown(self) -> Inspector:
        if self._inspector is None:
            raise RequestError(f"terwayd is not ready yet: {self._why()}", cause=Cause.BUSY)
        return self._inspector

    def _routes(self) -> None:
        async def resources(path: list[str], query: dict[str, str]) -> Any:
            if not path:
                return self._shown().types()
            if len(path) == 1:
                return self._shown().names(path[0])
            return self._shown().show(path[0], query.get("name"))

        async def mapping(_path: list[str], _query: dict[str, str]) -> Any:
            return self._shown().mapping()

        async def mode(_path: list[str], _query: dict[str, str]) -> Any:
            return self._shown().mode()

        async def state(_path: list[str], _query: dict[str, str]) -> Any:
            return self._shown().state()

        async def metadata(_path: list[str], _query: dict[str, str]) -> Any:
            return await self._show_metadata()

        async def execute(path: list[str], _query: dict[str, str]) -> Any:
            return await self._execute(path)

        for name, handler in (
            ("resources", resources),
            ("mapping", mapping),
            ("mode", mode),
            ("state", state),
            ("metadata", metadata),
            ("execute", execute),
        ):
            self._api.route("GET", name, handler)
        if self._config.test_clock:

            async def advance(_path: list[str], query: dict[str, str]) -> Any:
                self._timers.advance(float(query["seconds"]))
                return self._clock.now()

            self._api.route("POST", "advance-clock", advance)

    async def _show_metadata(self) -> dict[str, Any]:
        enis = []
        for mac in await self._metadata.macs():
            seen = await self._metadata.eni(mac, ipv6=True)
            if seen is not None:
                enis.append(self._metadata_row(mac, seen))
        return {"enis": sorted(enis, key=lambda e: (not e["primary"], e["mac"]))}

    def _metadata_row(self, mac: Mac, seen: MetadataEni) -> dict[str, Any]:
        known = self._journal.facts.get(IDENTITY, "{}")
        return {
            "mac": mac,
            "vswitch": seen.vswitch_id,
            "primary": json.loads(known).get("mac") == mac,
            "interface": self._kernel.device_of(mac),
            "primary_ipv4": str(seen.primary_ip),
            "secondary_ipv4s": sorted(str(a) for a in seen.ipv4 if a != seen.primary_ip),
            "ipv6s": sorted(str(a) for a in seen.ipv6),
        }

    async def _execute(self, path: list[str]) -> list[str]:
        """Upstream's commands of a resource. Each answers lines of text."""
        if len(path) < 3:
            raise RequestError("too few arguments", remedy="give TYPE RESOURCE COMMAND")
        kind, name, command, inspector = path[0], path[1], path[2], self._shown()
        inspector.show(kind, name)
        if kind == SERVICE and command == "resdb":
            return [json.dumps(r) for r in inspector.resources_of_pods()]
        if command == "mapping":
            return [json.dumps(inspector.mapping())]
        if kind == FACTORY and command == "audit":
            return await self._audit()
        raise RequestError("can't recognize command", remedy="there are mapping, resdb and audit")

    async def _audit(self) -> list[str]:
        """The cloud's ENIs against the ledger, in upstream's words."""
        assert self._cloud is not None
        enis = await self._cloud.enis_of_instance(self._identity_known.instance_id)
        remote = [e for e in enis if e.mac != self._identity_known.mac]
        book = self._journal.book
        lines = [f"{len(remote)} enis fetched"]
        if len(remote) != len(book.enis):
            lines.append(
                f"remote eni count not equal to local: remote {len(remote)}, local: {len(book.enis)}"
            )
        for eni in remote:
            lines.append(f"checking eni {eni.eni_id}({eni.mac})")
            if eni.eni_id not in book.enis:
                lines.append(f"remote eni {eni.eni_id}({eni.mac}) not found on local machine")
                continue
            lines += [
                f"ip {a} attached to eni {eni.eni_id}({eni.mac}) not found on local machine"
                for a in eni.ipv4
                if a not in book.addresses
            ]
        return lines


def _host_and_port(url: str) -> str:
    return url.removeprefix("http://").split("/")[0]
