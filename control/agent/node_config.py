"""Everything the operator told the daemon, put together once at the start."""

from __future__ import annotations

from dataclasses import dataclass

from cni.plugin import IpStack
from control.config.cni_conf import NodeCniConf
from control.config.credentials import Credentials
from control.config.eni_conf import EniConf
from control.config.settings import Settings
from control.ipam.sizing import PoolSizes, pool_sizes
from control.model.cloud import InstanceLimits
from control.model.errors import ConfigError
from datapath.endpoint import Network
from datapath.modes.policy_route.layout import METADATA


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """``fault`` and ``test_clock`` are for tests and off otherwise."""

    settings: Settings
    eni: EniConf
    cni: NodeCniConf
    credentials: Credentials
    wants_policy: bool = False
    """``disable_network_policy`` of eni-config is absent, empty, "0" or "false"."""
    fault: str = ""
    test_clock: bool = False

    @property
    def mtu(self) -> int:
        return self.cni.plugin.mtu

    @property
    def wants_dual(self) -> bool:
        return self.eni.ip_stack is IpStack.DUAL

    @property
    def wants_trunk(self) -> bool:
        return self.eni.trunk.enabled or self.cni.plugin.trunk_on

    @property
    def closed_to_pods(self) -> tuple[Network, ...]:
        """Destinations that no pod may reach."""
        return (METADATA,) if self.eni.block_pod_metadata else ()

    @property
    def tags(self) -> tuple[tuple[str, str], ...]:
        """Of every ENI that is ours."""
        return tuple(sorted(self.eni.eni_tags.items()))

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.eni.warnings, *self.cni.warnings)

    def sizes(self, limits: InstanceLimits, *, ipv6: bool = True) -> PoolSizes:
        """The pool's sizes on an instance type. Raises ConfigError if they leave no ENI for pods.

        ``ipv6``: whether the node's kernel has it.
        """
        pool = self.eni.pool
        sizes = pool_sizes(
            limits,
            min_pool=pool.min_pool_size,
            max_pool=pool.max_pool_size,
            max_eni=pool.max_eni,
            min_eni=pool.min_eni,
            ratio=pool.cap_ratio,
            shift=pool.cap_shift,
            dual=self.wants_dual and ipv6,
        )
        if sizes.max_enis == 0:
            raise ConfigError(
                f"instance type {limits.instance_type} with {limits.eni_quantity} ENIs leaves none for pods "
                f"(eni_cap_ratio {pool.cap_ratio:g}, eni_cap_shift {pool.cap_shift}, max_eni {pool.max_eni})",
                remedy="use a larger instance type or loosen these settings",
            )
        return sizes
