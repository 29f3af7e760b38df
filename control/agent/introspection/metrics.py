"""The daemon's metrics: upstream's names and buckets where upstream has them, so that dashboards carry over.

Gauges are read from the pool when somebody scrapes; nothing counts on the ADD's path but one histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from control.ipam.statistics import PoolStats
from datapath.difference import ObjectKind

_API_MS = (50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 13800, 14800, 16800, 20800, 28800, 44800)
_RPC_MS = (
    1,
    2,
    3,
    5,
    10,
    20,
    *(50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 26600, 27600, 29600, 33600),
    *(41600, 57600, 89600, 110000, 120000),
)
"""Upstream's start at 50 ms; an ADD here takes a few, so there are buckets below."""

_RPC_OF = {"ADD": "AllocIP", "DEL": "ReleaseIP", "CHECK": "GetIPInfo"}


class Metrics:
    def __init__(
        self, stats: Callable[[], PoolStats], enis: Callable[[], dict[str, int]], *, dual: bool
    ) -> None:
        self.registry = CollectorRegistry()
        self._openapi = Histogram(
            "aliyun_openapi_latency",
            "Time of OpenAPI calls in ms",
            ["api", "error"],
            buckets=_API_MS,
            registry=self.registry,
        )
        self._limiter = Histogram(
            "rate_limiter_latency",
            "Time that calls waited for the client's own rate limit in ms",
            ["api"],
            buckets=_API_MS[2:],
            registry=self.registry,
        )
        self._metadata = Histogram(
            "aliyun_metadata_latency",
            "Time of metadata reads in ms",
            ["url", "error"],
            buckets=tuple(2**i for i in range(10)),
            registry=self.registry,
        )
        self._rpc = Histogram(
            "terway_rpc_latency",
            "Time of CNI requests in the daemon in ms",
            ["rpc_api", "error"],
            buckets=_RPC_MS,
            registry=self.registry,
        )
        self._allocations = Counter(
            "terway_eniip_factory_ip_alloc_count",
            "Address operations towards the cloud by outcome",
            ["status"],
            registry=self.registry,
        )
        self._repairs = Counter(
            "terway_kernel_repairs",
            "Kernel objects that were missing, altered or another hand's, and put right, by kind",
            ["kind"],
            registry=self.registry,
        )
        for kind in ObjectKind:  # a rate is seen from the first repair on
            self._repairs.labels(kind)
        self.registry.register(_PoolCollector(stats, enis, "dual" if dual else "ipv4"))

    def openapi(self, api: str, error: str, seconds: float) -> None:
        self._openapi.labels(api, error).observe(seconds * 1000)

    def limiter(self, api: str, seconds: float) -> None:
        self._limiter.labels(api).observe(seconds * 1000)

    def metadata(self, url: str, error: str, seconds: float) -> None:
        self._metadata.labels(url, error).observe(seconds * 1000)

    def request(self, command: str, error: str, seconds: float) -> None:
        self._rpc.labels(_RPC_OF.get(command, command), error).observe(seconds * 1000)

    def repaired(self, kind: ObjectKind) -> None:
        self._repairs.labels(kind).inc()

    def allocation(self, *, ok: bool) -> None:
        self._allocations.labels("succeed" if ok else "fail").inc()


class _PoolCollector:
    """Pool gauges, made at scrape time."""

    def __init__(
        self, stats: Callable[[], PoolStats], enis: Callable[[], dict[str, int]], ip_stack: str
    ) -> None:
        self._stats = stats
        self._enis = enis
        self._ip_stack = ip_stack

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, text, value in (
            ("terway_resource_pool_total_count", "Addresses of the pool", stats.total),
            ("terway_resource_pool_idle_count", "Addresses that could be handed out now", stats.idle),
            ("terway_resource_pool_allocated_count", "Addresses held by pods", stats.in_use),
            ("terway_resource_pool_cooling_count", "Released addresses in their cooldown", stats.cooling),
            ("terway_resource_pool_frozen_count", "Addresses that a witness lost", stats.frozen),
            ("terway_resource_pool_held_count", "Addresses of running pods not in the ledger", stats.held),
            ("terway_resource_pool_disposed_count", "Addresses being given back", stats.releasing),
            ("terway_resource_pool_waiting_count", "Pods that wait for an address", stats.waiting),
            ("terway_resource_pool_capacity_count", "Addresses this node may have", stats.capacity),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["type", "ipStack"])
            gauge.add_metric(["local", self._ip_stack], value)
            yield gauge
        count = self._enis()
        enis = GaugeMetricFamily("terway_eniip_factory_eni_count", "ENIs for pods", labels=["name"])
        enis.add_metric(["eniip"], len(count))
        yield enis
        ips = GaugeMetricFamily("terway_eniip_factory_ip_count", "Addresses per ENI", labels=["name", "eni"])
        for mac, number in count.items():
            ips.add_metric(["eniip", mac], number)
        yield ips
