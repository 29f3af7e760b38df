"""``eni_conf`` of the ConfigMap ``kube-system/eni-config``: what the daemon is to do on every node.

Keys, types and defaults are upstream's, the ones of its older releases and of ``network-modes.md``
(``trunk_on``) included. Start stops, with a ConfigError, where upstream's does:

- the text is not a JSON object, or a known key has a value of the wrong JSON type;
- ``ip_stack`` is neither ipv4 nor dual;
- there are more than 10 security groups;
- an ``idle_ip_reclaim_*`` value cannot be parsed;
- ``service_cidr`` is not one or two CIDRs (that there is none at all is the caller's to find out, once the
  cluster has not told either);

and at values upstream would have carried into a call that fails later: a number below its minimum, a word
that is none of the allowed, a CIDR in ``extra_routes`` that is none. It goes on, with a warning, where
upstream's goes on: unknown keys, ``ip_pool_sync_period``, ``version``, half an access key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cni.fields import FieldError, Fields, Network, NotAnObject, load, parse_network, words_of
from cni.plugin import IpStack
from control.config.api_conf import ApiConf, read_api
from control.config.credentials import Credentials, read_credentials
from control.config.merge_patch import merge_patch
from control.config.pool_conf import PoolConf, read_pool
from control.model.errors import ConfigError
from control.model.ids import SecurityGroupId, VSwitchId
from control.model.policies import EniPolicy, VSwitchPolicy

SECURITY_GROUPS_MAX = 10
ALWAYS_BLOCKED = (
    ("creator", "alibabacloud-erdma-controller"),
    ("terway.alibabacloud.com/excluded", "true"),
)
_REMEDY = "correct the ConfigMap kube-system/eni-config and restart terwayd"
_WITHOUT_EFFECT = (
    "prefix",
    "enable_eip_pool",
    "allow_eip_rob",
    "eni_cap_policy",
    "enable_eip_migrate",
    "hot_plug",
)
"""Keys of older releases."""


class IpamType(StrEnum):
    LOCAL = ""
    """The daemon calls the cloud itself."""
    CRD = "crd"
    """The control plane does, and tells the daemon by the Node resource."""
    PREFER_CRD = "preferCRD"


@dataclass(frozen=True, slots=True)
class PrefixConf:
    enabled: bool = False
    """``enable_ip_prefix``: ENIs get /28 prefixes instead of single addresses."""
    ipv4_count: int = 0
    """``ipv4_prefix_count``: /28 prefixes per node."""
    ipv6_count: int = 0
    """``ipv6_prefix_count``: 0 or 1; for IPv6 alone. Dual stack has one /80 per ENI by itself."""


@dataclass(frozen=True, slots=True)
class TrunkConf:
    enabled: bool = False
    """``enable_eni_trunking``, or the seed's ``trunk_on``: a trunk ENI per node for pods' own member ENIs."""
    security_group: str = ""
    """``trunk_security_group``: of the trunk ENI, if it is not to have the pods' groups."""


@dataclass(frozen=True, slots=True)
class EniConf:
    """A default is what an absent key means. ``""`` for text is the same as absent."""

    version: str = "1"
    """``version`` of the format: "1" is the only one."""
    credentials: Credentials = field(default_factory=Credentials)
    """``access_key``, ``access_secret``, ``credential_path``."""
    region_id: str = ""
    """``region_id``; "": ask the metadata service."""
    service_cidr: tuple[Network, ...] = ()
    """``service_cidr``, "v4" or "v4,v6": what pods reach through the node. (): ask the cluster."""
    vswitches: Mapping[str, tuple[VSwitchId, ...]] = field(default_factory=dict)
    """``vswitches``: where ENIs for pods are made, by zone; of a zone not named: the node's vSwitch."""
    security_groups: tuple[SecurityGroupId, ...] = ()
    """``security_group`` and ``security_groups`` together, sorted; (): those of the node's primary ENI."""
    eni_tags: Mapping[str, str] = field(default_factory=lambda: {"creator": "terway"})
    """``eni_tags``: put on every ENI we make; creator=terway is always among them."""
    eni_tag_filter: Mapping[str, str] = field(default_factory=dict)
    """``eni_tag_filter``: only ENIs that have all of these tags are ours; {}: every secondary ENI is."""
    eni_tag_block_list: tuple[tuple[str, str], ...] = ALWAYS_BLOCKED
    """``eni_tag_block_list``, [{"key","value"}], and upstream's two: an ENI with one of these tags gets no
    pods (centralised IPAM)."""
    resource_group_id: str = ""
    """``resource_group_id`` of the ENIs we make."""
    custom_route_table_ids: tuple[str, ...] = ()
    """``custom_route_table_ids``: route tables of the VPC mode, which is deprecated."""
    pool: PoolConf = field(default_factory=PoolConf)
    """Sizes and times of the address pool."""
    vswitch_policy: VSwitchPolicy = VSwitchPolicy.RANDOM
    """``vswitch_selection_policy``: which of the zone's vSwitches the next ENI is made in."""
    eni_policy: EniPolicy = EniPolicy.MOST_IPS
    """``eni_selection_policy``: which ENI serves the next pod, and which is given back first."""
    ip_stack: IpStack = IpStack.IPV4
    """``ip_stack``: ipv4, or dual for an IPv4 and an IPv6 address per pod."""
    trunk: TrunkConf = TrunkConf()
    """Pods with an ENI of their own."""
    enable_erdma: bool = False
    """``enable_erdma``: ENIs with RDMA."""
    prefixes: PrefixConf = PrefixConf()
    """Prefix mode."""
    stateful_kinds: frozenset[str] = frozenset({"statefulset"})
    """``custom_stateful_workload_kinds``, in lower case, and statefulset: owners whose pods keep their
    address for a while after they are gone."""
    ipam_type: IpamType = IpamType.LOCAL
    """``ipam_type``; ``centralized_ipam`` true is crd."""
    extra_routes: tuple[Network, ...] = ()
    """``extra_routes``, [{"dst": CIDR}]: further routes by the pod's interface."""
    disable_device_plugin: bool = False
    """``disable_device_plugin``: do not announce ENIs as resources to the kubelet."""
    enable_patch_pod_ips: bool = False
    """``enable_patch_pod_ips``: write the annotation k8s.aliyun.com/pod-ips. Upstream's default is true, and
    its agents may rewrite any pod for it; here it takes a right of its own (the chart's podIps)."""
    block_pod_metadata: bool = False
    """``block_pod_metadata`` (this product's own key): pods do not reach the instance metadata service, which
    hands the credentials of the node's RAM role to whoever asks. Pods in the node's own network still do."""
    api: ApiConf = field(default_factory=ApiConf)
    """Rate limits and waits."""
    warnings: tuple[str, ...] = ()
    """One line for each unknown key and each value that is not used."""


def parse(data: bytes, *, patch: bytes | None = None) -> EniConf:
    """``patch``: the node's own eni_conf, merged over ``data``. Raises ConfigError."""
    base = _object("eni_conf", data)
    if patch is not None:
        base = merge_patch(base, _object("the node's eni_conf (label terway-config)", patch))
    try:
        return _read(Fields(base))
    except FieldError as exc:
        raise ConfigError(f"eni_conf: {exc}", remedy=_REMEDY) from exc


def _object(what: str, data: bytes) -> dict[str, object]:
    try:
        return load(data)
    except NotAnObject as exc:
        raise ConfigError(f"{what} cannot be parsed: {exc}", remedy=_REMEDY) from exc


def _read(fields: Fields) -> EniConf:
    version, about_version = _version(fields)
    credentials, about_credentials = read_credentials(fields)
    pool, about_pool = read_pool(fields)
    centralized = fields.boolean("centralized_ipam", False)
    conf = EniConf(
        version=version,
        credentials=credentials,
        region_id=fields.text("region_id"),
        service_cidr=_service_cidr(fields),
        vswitches=_vswitches(fields),
        security_groups=_security_groups(fields),
        eni_tags=fields.string_map("eni_tags") | {"creator": "terway"},
        eni_tag_filter=fields.string_map("eni_tag_filter"),
        eni_tag_block_list=ALWAYS_BLOCKED
        + tuple((tag.text("key"), tag.text("value")) for tag in fields.inners("eni_tag_block_list")),
        resource_group_id=fields.text("resource_group_id"),
        custom_route_table_ids=fields.texts("custom_route_table_ids"),
        pool=pool,
        vswitch_policy=fields.choice(
            "vswitch_selection_policy", words_of(VSwitchPolicy), VSwitchPolicy.RANDOM
        ),
        eni_policy=fields.choice("eni_selection_policy", words_of(EniPolicy), EniPolicy.MOST_IPS),
        ip_stack=fields.choice("ip_stack", words_of(IpStack), IpStack.IPV4),
        trunk=_trunk(fields),
        enable_erdma=fields.boolean("enable_erdma", False),
        prefixes=_prefixes(fields),
        stateful_kinds=_stateful_kinds(fields),
        ipam_type=IpamType.CRD
        if centralized
        else fields.choice("ipam_type", words_of(IpamType), IpamType.LOCAL),
        extra_routes=tuple(_route(item) for item in fields.inners("extra_routes")),
        disable_device_plugin=fields.boolean("disable_device_plugin", False),
        enable_patch_pod_ips=fields.boolean("enable_patch_pod_ips", False),
        block_pod_metadata=fields.boolean("block_pod_metadata", False),
        api=read_api(fields),
    )
    warnings = (*about_version, *about_credentials, *about_pool, *_old_keys(fields), *fields.unknown())
    return replace(conf, warnings=warnings)


def _version(fields: Fields) -> tuple[str, tuple[str, ...]]:
    version = fields.text("version") or "1"
    if version == "1":
        return version, ()
    return version, (f"{fields.error('version', chr(34) + '1' + chr(34))}; it is read as if it were",)


def _old_keys(fields: Fields) -> tuple[str, ...]:
    return tuple(
        f"key {key} of older releases has no effect"
        for key in _WITHOUT_EFFECT
        if fields.value(key) is not None
    )


def _service_cidr(fields: Fields) -> tuple[Network, ...]:
    parts = [part.strip() for part in fields.text("service_cidr").split(",") if part.strip()]
    found = [network for part in parts if (network := parse_network(part)) is not None]
    families = {network.version for network in found}
    if len(found) < len(parts) or len(families) < len(found):
        raise fields.error("service_cidr", 'one IPv4 CIDR, one IPv6 CIDR or both, "10.96.0.0/12,fd00::/112"')
    return tuple(sorted(found, key=lambda network: network.version))


def _vswitches(fields: Fields) -> dict[str, tuple[VSwitchId, ...]]:
    zones = fields.inner("vswitches")
    table = fields.table("vswitches") or {}
    return {zone: tuple(VSwitchId(vswitch) for vswitch in zones.texts(zone)) for zone in table}


def _security_groups(fields: Fields) -> tuple[SecurityGroupId, ...]:
    one, several = fields.text("security_group"), fields.texts("security_groups")
    groups = sorted({one, *several} - {""})
    if len(groups) > SECURITY_GROUPS_MAX:
        allowed = f"at most {SECURITY_GROUPS_MAX} with security_group, there are {len(groups)}"
        raise fields.error("security_groups", allowed)
    return tuple(SecurityGroupId(group) for group in groups)


def _trunk(fields: Fields) -> TrunkConf:
    upstream, seed = fields.boolean("enable_eni_trunking", False), fields.boolean("trunk_on", False)
    return TrunkConf(upstream or seed, fields.text("trunk_security_group"))


def _prefixes(fields: Fields) -> PrefixConf:
    return PrefixConf(
        fields.boolean("enable_ip_prefix", False),
        fields.integer("ipv4_prefix_count", 0),
        fields.integer("ipv6_prefix_count", 0, high=1),
    )


def _stateful_kinds(fields: Fields) -> frozenset[str]:
    return frozenset(
        {"statefulset"} | {kind.lower() for kind in fields.texts("custom_stateful_workload_kinds")}
    )


def _route(fields: Fields) -> Network:
    network = parse_network(fields.text("dst"))
    if network is None:
        raise fields.error("dst", "a CIDR such as 10.0.0.0/8 or 2001:db8::/32")
    return network
