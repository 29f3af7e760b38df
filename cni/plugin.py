"""The plugin's own settings: the keys of ``10-terway.conf`` (or of ``terway``'s entry in a conflist).

Names and defaults are upstream's (its ``CNIConf``), plus what ``network-modes.md`` writes: ``trunk_on`` and
the values ``IPVlan`` and ``PolicyRoute``. Like the runtime, the daemon reads them from the same file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cni.fields import Fields, Network, words_of


class VirtualType(StrEnum):
    """How a pod of an ENI with several addresses is connected. The mode in force may be a lower one."""

    IPVLAN = "IPVlan"
    POLICY_ROUTE = "PolicyRoute"
    DATAPATH_V2 = "datapathv2"
    MACVLAN = "Macvlan"
    """The proof that nothing assumes a link on the host; refused as unknown unless ``TEST_MODES`` is set."""


class VlanStrip(StrEnum):
    FILTER = "filter"
    """The tag of a trunk member is pushed and popped on the trunk ENI."""
    VLAN = "vlan"
    """The pod gets a VLAN sub-interface of the trunk ENI."""


class BandwidthMode(StrEnum):
    TC = "tc"
    """A token bucket on the pod's link."""
    EDT = "edt"
    """Earliest departure time with fq on the ENI."""


class PolicyProvider(StrEnum):
    IPTABLES = "iptables"
    EBPF = "ebpf"


class IpStack(StrEnum):
    IPV4 = "ipv4"
    DUAL = "dual"


TEST_MODES = "TERWAY_TEST_MODES"
"""Environment of the agent: "1" lets it take modes that prove something and are not for users."""
_VIRTUAL_TYPES: Mapping[str, VirtualType] = {
    "IPVlan": VirtualType.IPVLAN,
    "PolicyRoute": VirtualType.POLICY_ROUTE,
    "veth": VirtualType.POLICY_ROUTE,
    "datapathv2": VirtualType.DATAPATH_V2,
}
_FOR_TESTS: Mapping[str, VirtualType] = {"Macvlan": VirtualType.MACVLAN}
_CILIUM = (
    "cilium_args",
    "cilium_enable_hubble",
    "cilium_hubble_metrics",
    "cilium_hubble_listen_address",
    "cilium_hubble_metrics_server",
)

MTU_DEFAULT = 1500
MTU_MIN = 576
"""What every IPv4 host takes (RFC 791)."""
MTU_MAX = 9000
"""Above the 8500 of an ENI with jumbo frames: the kernel says no to what the device cannot do."""


@dataclass(frozen=True, slots=True)
class SymmetricRouting:
    """``symmetric_routing_config``: mark and rule that send replies out where their request came in."""

    interface: str = "eth0"
    """The device on which requests from outside arrive."""
    mark: int = 0x10
    """Bits set in the mark of their connections."""
    mask: int = 0x10
    """Bits of the mark that are looked at."""
    table_id: int = 100
    """Routing table with the default route through ``interface``."""
    rule_priority: int = 600
    """Priority of the rule that leads to it."""
    comment: str = "terway-symmetric"
    """Comment, or table name, of the firewall rules."""
    backend: str = "iptables"
    """``iptables`` or ``nftables``."""


@dataclass(frozen=True, slots=True)
class PluginConf:
    """Settings of the CNI plugin. A default is what an absent key means."""

    virtual_type: VirtualType = VirtualType.POLICY_ROUTE
    """``eniip_virtual_type``: IPVlan, PolicyRoute (upstream's word: veth) or datapathv2, in any case."""
    trunk_on: bool = False
    """``trunk_on``: pods may have an ENI of their own behind the node's trunk ENI. Also in eni_conf."""
    mtu: int = MTU_DEFAULT
    """``mtu`` in bytes, of the pod's link, its peer and the ENI; 576 to 9000. 0 is the default."""
    auto_mtu: bool = False
    """``auto_mtu``: take the MTU of eth0, unless ``mtu`` is set."""
    host_stack_cidrs: tuple[Network, ...] = ()
    """``host_stack_cidrs``: destinations that pods reach through the node's own network stack."""
    disable_host_peer: bool = False
    """``disable_host_peer``: pods with an exclusive ENI get no second link to the node, so no services."""
    vlan_strip_type: VlanStrip = VlanStrip.FILTER
    """``vlan_strip_type``: who handles the VLAN tag of a trunk member, ``filter`` or ``vlan``."""
    bandwidth_mode: BandwidthMode = BandwidthMode.TC
    """``bandwidth_mode``: how a pod's bandwidth limit is enforced, ``tc`` or ``edt``."""
    enable_network_priority: bool = False
    """``enable_network_priority``: a priority band per pod on the ENI."""
    network_policy_provider: PolicyProvider = PolicyProvider.IPTABLES
    """``network_policy_provider``: ``iptables`` or ``ebpf``."""
    ip_stack: IpStack | None = None
    """``ip_stack``: ``ipv4`` or ``dual``. Documented here upstream, but eni_conf's is the one that counts."""
    symmetric_routing: bool = False
    """``symmetric_routing``: replies to what came in by eth0 leave by eth0, whatever the pod's ENI."""
    symmetric: SymmetricRouting = SymmetricRouting()
    """``symmetric_routing_config``."""
    debug: bool = False
    """``debug``: log each request and result of this plugin."""
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    """``capabilities``: what the runtime may pass in runtimeConfig, ``bandwidth`` for one."""
    cilium: Mapping[str, str] = field(default_factory=dict)
    """``cilium_*``: options for an agent that this product does not run. Kept, without effect."""

    @classmethod
    def read(cls, fields: Fields) -> PluginConf:
        """Raises FieldError. Marks every key of the plugin as known."""
        fields.value("veth_prefix")  # upstream parses it and does not use it: Felix needs "cali"
        return cls(
            virtual_type=fields.choice("eniip_virtual_type", _virtual_types(), VirtualType.POLICY_ROUTE),
            trunk_on=fields.boolean("trunk_on", False),
            mtu=_mtu(fields),
            auto_mtu=fields.boolean("auto_mtu", False),
            host_stack_cidrs=fields.networks("host_stack_cidrs"),
            disable_host_peer=fields.boolean("disable_host_peer", False),
            vlan_strip_type=fields.choice("vlan_strip_type", words_of(VlanStrip), VlanStrip.FILTER),
            bandwidth_mode=fields.choice("bandwidth_mode", words_of(BandwidthMode), BandwidthMode.TC),
            enable_network_priority=fields.boolean("enable_network_priority", False),
            network_policy_provider=fields.choice(
                "network_policy_provider", words_of(PolicyProvider), PolicyProvider.IPTABLES
            ),
            ip_stack=fields.choice("ip_stack", words_of(IpStack), None),
            symmetric_routing=fields.boolean("symmetric_routing", False),
            symmetric=_symmetric(fields.inner("symmetric_routing_config")),
            debug=fields.boolean("debug", False),
            capabilities=fields.boolean_map("capabilities"),
            cilium={key: text for key in _CILIUM if (text := fields.text(key))},
        )


def _virtual_types() -> Mapping[str, VirtualType]:
    return _VIRTUAL_TYPES if os.environ.get(TEST_MODES) != "1" else {**_VIRTUAL_TYPES, **_FOR_TESTS}


def _mtu(fields: Fields) -> int:
    value = fields.value("mtu")
    if value == 0 and type(value) is int:
        return MTU_DEFAULT
    return fields.integer("mtu", MTU_DEFAULT, low=MTU_MIN, high=MTU_MAX)


def _symmetric(fields: Fields) -> SymmetricRouting:
    usual = SymmetricRouting()
    return SymmetricRouting(
        interface=fields.text("interface") or usual.interface,
        mark=fields.integer("mark", usual.mark, high=0xFFFFFFFF),
        mask=fields.integer("mask", usual.mask, high=0xFFFFFFFF),
        table_id=fields.integer("table_id", usual.table_id, high=0xFFFFFFFF),
        rule_priority=fields.integer("rule_priority", usual.rule_priority, high=0xFFFFFFFF),
        comment=fields.text("comment") or usual.comment,
        backend=fields.choice("backend", {"iptables": "iptables", "nftables": "nftables"}, usual.backend),
    )
