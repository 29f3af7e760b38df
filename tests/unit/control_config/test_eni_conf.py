from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from cni.plugin import IpStack
from control.config.api_conf import Backoff
from control.config.eni_conf import (
    ALWAYS_BLOCKED,
    EniConf,
    IpamType,
    PrefixConf,
    TrunkConf,
    parse,
)
from control.config.pool_conf import PoolConf
from control.model.errors import Cause, ConfigError
from control.model.policies import EniPolicy, VSwitchPolicy

MULTI_IP = """
{
  "version": "1",
  "access_key": "your-access-key",
  "access_secret": "your-access-secret",
  "security_group": "sg-xxxxxxxxx",
  "service_cidr": "10.96.0.0/12",
  "vswitches": {
    "cn-hangzhou-a": ["vsw-xxxxxxxxx"],
    "cn-hangzhou-b": ["vsw-yyyyyyyyy"]
  },
  "max_pool_size": 5,
  "min_pool_size": 0
}
"""
TRUNKING = """
{
  "version": "1",
  "trunk_on": true,
  "access_key": "your-access-key",
  "access_secret": "your-access-secret",
  "security_group": "sg-default",
  "service_cidr": "10.96.0.0/12",
  "vswitches": {
    "cn-hangzhou-a": ["vsw-xxxxxxxxx", "vsw-yyyyyyyyy"],
    "cn-hangzhou-b": ["vsw-zzzzzzzzz", "vsw-aaaaaaaaa"]
  }
}
"""
"""Both as ``network-modes.md`` has them."""


def read(**keys: object) -> EniConf:
    return parse(json.dumps(keys).encode())


def test_multi_ip_of_network_modes() -> None:
    found = parse(MULTI_IP.encode())
    assert found.credentials.access_key == "your-access-key"
    assert found.credentials.access_secret == "your-access-secret"
    assert found.credentials.has_key
    assert found.security_groups == ("sg-xxxxxxxxx",)
    assert found.service_cidr == (ip_network("10.96.0.0/12"),)
    assert found.vswitches == {"cn-hangzhou-a": ("vsw-xxxxxxxxx",), "cn-hangzhou-b": ("vsw-yyyyyyyyy",)}
    assert found.pool == PoolConf(max_pool_size=5, min_pool_size=0)
    assert found.trunk == TrunkConf()
    assert found.warnings == ()


def test_trunking_of_network_modes() -> None:
    found = parse(TRUNKING.encode())
    assert found.trunk == TrunkConf(enabled=True)
    assert found.vswitches["cn-hangzhou-a"] == ("vsw-xxxxxxxxx", "vsw-yyyyyyyyy")
    assert found.warnings == ()


def test_an_absent_key_is_its_default() -> None:
    assert read() == EniConf()
    assert read(max_pool_size=None, vswitches=None, ip_stack="", service_cidr="") == EniConf()


def test_every_key_of_upstream() -> None:
    found = read(
        version="1",
        credential_path="/var/addon/token-config",
        region_id="cn-hangzhou",
        service_cidr="fd00:10::/112, 10.96.0.0/12",
        security_group="sg-b",
        security_groups=["sg-c", "sg-a", "sg-b"],
        eni_tags={"team": "net", "creator": "someone"},
        eni_tag_filter={"k": "v"},
        eni_tag_block_list=[{"key": "a", "value": "b"}],
        vswitch_selection_policy="ordered",
        eni_selection_policy="least_ips",
        ip_stack="dual",
        enable_eni_trunking=True,
        enable_erdma=True,
        enable_ip_prefix=True,
        ipv4_prefix_count=3,
        ipv6_prefix_count=1,
        custom_stateful_workload_kinds=["CloneSet", "StatefulSet"],
        ipam_type="preferCRD",
        extra_routes=[{"dst": "192.168.0.0/16"}, {"dst": "fd00::/8"}],
        disable_device_plugin=True,
        kube_client_qps=20,
        kube_client_burst=30,
        resource_group_id="rg-1",
        rate_limit={"AttachNetworkInterface": 100},
        backoff_override={
            "eni_ops": {"Duration": 5_000_000_000, "Factor": 2, "Jitter": 0.3, "Steps": 6, "Cap": "1m"}
        },
        enable_patch_pod_ips=True,
        block_pod_metadata=True,
        custom_route_table_ids=["vtb-1"],
        trunk_security_group="sg-t",
    )
    assert found.warnings == ()
    assert found.credentials.credential_path == "/var/addon/token-config"
    assert found.region_id == "cn-hangzhou"
    assert found.service_cidr == (ip_network("10.96.0.0/12"), ip_network("fd00:10::/112"))
    assert found.security_groups == ("sg-a", "sg-b", "sg-c")
    assert found.eni_tags == {"team": "net", "creator": "terway"}
    assert found.eni_tag_filter == {"k": "v"}
    assert found.eni_tag_block_list == (*ALWAYS_BLOCKED, ("a", "b"))
    assert (found.vswitch_policy, found.eni_policy) == (VSwitchPolicy.ORDERED, EniPolicy.LEAST_IPS)
    assert found.ip_stack is IpStack.DUAL
    assert found.trunk == TrunkConf(True, "sg-t")
    assert found.enable_erdma
    assert found.prefixes == PrefixConf(True, 3, 1)
    assert found.stateful_kinds == {"statefulset", "cloneset"}
    assert found.ipam_type is IpamType.PREFER_CRD
    assert found.extra_routes == (ip_network("192.168.0.0/16"), ip_network("fd00::/8"))
    assert found.disable_device_plugin
    assert found.resource_group_id == "rg-1"
    assert (found.api.kube_client_qps, found.api.kube_client_burst) == (20.0, 30)
    assert found.api.rate_limit == {"AttachNetworkInterface": 100}
    assert found.api.backoff_override == {
        "eni_ops": Backoff(duration=5.0, factor=2.0, jitter=0.3, steps=6, cap=60.0)
    }
    assert found.block_pod_metadata
    assert found.enable_patch_pod_ips
    assert not read().enable_patch_pod_ips, "nobody writes to pods who was not told to"
    assert found.custom_route_table_ids == ("vtb-1",)


def test_every_key_of_the_pool() -> None:
    found = read(
        max_pool_size=10,
        min_pool_size=3,
        ip_warm_up_size=7,
        idle_ip_reclaim_after="30m",
        idle_ip_reclaim_batch_size=2,
        idle_ip_reclaim_interval="5m",
        idle_ip_reclaim_jitter_factor="0.25",
        min_eni=1,
        max_eni=4,
        eni_cap_ratio=0.5,
        eni_cap_shift=-1,
        ip_pool_sync_period="1m30s",
        ip_cool_down="1s",
    )
    assert found.warnings == ()
    assert found.pool == PoolConf(10, 3, 7, 1800.0, 2, 300.0, 0.25, 1, 4, 0.5, -1, 90.0, 1.0)


def test_zero_is_the_whole_share_and_no_reclaim_is_the_default() -> None:
    found = read(eni_cap_ratio=0).pool
    assert (found.cap_ratio, found.reclaim_after, found.cool_down) == (1.0, None, 30.0)


def test_a_negative_rate_is_no_rate_as_in_the_official_client() -> None:
    assert read(kube_client_qps=-1).api.kube_client_qps == 0.0
    with pytest.raises(ConfigError, match="kube_client_qps is true"):
        read(kube_client_qps=True)


@pytest.mark.parametrize("word", ["", "0", "0s", "0h0m", None])
def test_no_time_to_reclaim_after_is_no_reclaim(word: str | None) -> None:
    """As upstream has it: what has no duration is off, and not at once."""
    assert read(idle_ip_reclaim_after=word).pool.reclaim_after is None
    assert read(idle_ip_reclaim_after="1ms").pool.reclaim_after == 0.001


@pytest.mark.parametrize(
    ("keys", "trunk"),
    [
        ({"trunk_on": True, "enable_eni_trunking": False}, True),
        ({"trunk_on": False, "enable_eni_trunking": True}, True),
        ({"trunk_on": False}, False),
    ],
)
def test_both_words_for_trunking(keys: dict[str, object], trunk: bool) -> None:
    assert read(**keys).trunk.enabled is trunk


def test_centralized_ipam_is_crd() -> None:
    assert read(centralized_ipam=True).ipam_type is IpamType.CRD


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"max_pool_sise": 5}, ['unknown key "max_pool_sise" is ignored, did you mean max_pool_size?']),
        ({"zzz": 1}, ['unknown key "zzz" is ignored']),
        ({"ip_pool_sync_period": "2 minutes"}, ['ip_pool_sync_period is "2 minutes"', "120s is used"]),
        ({"ip_pool_sync_period": "0"}, ['ip_pool_sync_period is "0"', "at least 1s"]),
        ({"ip_pool_sync_period": "1ns"}, ['ip_pool_sync_period is "1ns"', "at least 1s"]),
        ({"version": "2"}, ['version is "2", allowed: "1"']),
        ({"access_key": "AK"}, ["access_key is set and access_secret is not"]),
        ({"access_secret": "S3CRET"}, ["access_secret is set and access_key is not"]),
        ({"min_pool_size": 5}, ["min_pool_size 5 is more than max_pool_size 0: 5 idle addresses are held"]),
        ({"enable_eip_pool": "true"}, ["enable_eip_pool of older releases has no effect"]),
    ],
)
def test_warnings(keys: dict[str, object], words: list[str]) -> None:
    (line,) = read(**keys).warnings
    assert all(word in line for word in words)
    assert "S3CRET" not in line


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"ip_stack": "ipv6"}, 'ip_stack is "ipv6", allowed: ipv4, dual'),
        ({"security_groups": [f"sg-{n}" for n in range(11)]}, "there are 11"),
        ({"security_group": "sg-x", "security_groups": [f"sg-{n}" for n in range(10)]}, "there are 11"),
        ({"security_groups": "sg-1"}, 'security_groups is "sg-1", allowed: a list of strings'),
        ({"security_groups": [""]}, "security_groups is"),
        ({"service_cidr": "10.96.0.0"}, 'service_cidr is "10.96.0.0", allowed: one IPv4 CIDR'),
        ({"service_cidr": "10.96.0.0/12,10.0.0.0/8"}, "service_cidr is"),
        ({"service_cidr": "10.96.0.0/12,fd00::/112,fd01::/112"}, "service_cidr is"),
        ({"vswitches": []}, "vswitches is [], allowed: a JSON object"),
        ({"vswitches": {"cn-a": "vsw-1"}}, 'vswitches.cn-a is "vsw-1", allowed: a list of strings'),
        (
            {"max_pool_size": "5"},
            'max_pool_size is "5", allowed: a whole number of at least 0, without quotes',
        ),
        ({"max_pool_size": -1}, "max_pool_size is -1"),
        ({"max_pool_size": True}, "max_pool_size is true"),
        ({"min_pool_size": 1.5}, "min_pool_size is 1.5"),
        (
            {"idle_ip_reclaim_after": "soon"},
            'idle_ip_reclaim_after is "soon", allowed: a duration such as 30s',
        ),
        ({"idle_ip_reclaim_interval": "-1m"}, 'idle_ip_reclaim_interval is "-1m"'),
        ({"idle_ip_reclaim_batch_size": -1}, "idle_ip_reclaim_batch_size is -1"),
        ({"idle_ip_reclaim_jitter_factor": "much"}, 'idle_ip_reclaim_jitter_factor is "much"'),
        ({"idle_ip_reclaim_jitter_factor": "nan"}, 'idle_ip_reclaim_jitter_factor is "nan"'),
        ({"idle_ip_reclaim_jitter_factor": True}, "idle_ip_reclaim_jitter_factor is true"),
        ({"ip_cool_down": 30}, "ip_cool_down is 30, allowed: a string"),
        ({"ip_cool_down": "30"}, 'ip_cool_down is "30", allowed: a duration such as 30s'),
        ({"eni_cap_ratio": "1"}, 'eni_cap_ratio is "1"'),
        ({"eni_cap_ratio": -0.5}, "eni_cap_ratio is -0.5"),
        ({"eni_cap_ratio": 10**400}, "eni_cap_ratio is 1000"),
        ({"eni_cap_ratio": False}, "eni_cap_ratio is false"),
        (
            {"vswitch_selection_policy": "best"},
            'vswitch_selection_policy is "best", allowed: random, ordered, most',
        ),
        ({"eni_selection_policy": "x"}, 'eni_selection_policy is "x", allowed: most_ips, least_ips'),
        ({"ipam_type": "x"}, 'ipam_type is "x"'),
        ({"trunk_on": "true"}, 'trunk_on is "true", allowed: true or false'),
        ({"eni_tags": {"a": 1}}, 'eni_tags is {"a": 1}, allowed: a JSON object of strings'),
        ({"extra_routes": ["10.0.0.0/8"]}, 'extra_routes is ["10.0.0.0/8"], allowed: a list of JSON objects'),
        ({"extra_routes": [{"dst": "10.0.0.1"}]}, 'extra_routes[0].dst is "10.0.0.1"'),
        ({"ipv6_prefix_count": 2}, "ipv6_prefix_count is 2, allowed: a whole number from 0 to 1"),
        ({"rate_limit": {"X": 0}}, "rate_limit.X is 0"),
        ({"backoff_override": {"x": {"Duration": "5 s"}}}, 'backoff_override.x.Duration is "5 s"'),
        ({"backoff_override": {"x": 1}}, "backoff_override.x is 1"),
        ({"version": 1}, "version is 1, allowed: a string"),
    ],
)
def test_bad_value_names_key_value_and_what_is_allowed(keys: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**keys)
    assert caught.value.cause is Cause.CONFIG
    assert named in caught.value.what
    assert ", allowed: " in caught.value.what
    assert "eni-config" in caught.value.remedy


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{'a': 1}", b'{"access_secret": "S3CRET" x}', b"\xff", b"[" * 99999]
)
def test_not_a_json_object(data: bytes) -> None:
    with pytest.raises(ConfigError, match="eni_conf cannot be parsed") as caught:
        parse(data)
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("key", ["access_key", "access_secret"])
def test_a_secret_is_not_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**{key: ["S3CRET"]})
    assert f"{key} is (hidden), allowed: a string" in str(caught.value)
    assert "S3CRET" not in repr(read(access_key="S3CRET-id", access_secret="S3CRET"))


def test_patch_of_the_node() -> None:
    patch = b'{"max_pool_size": 20, "security_group": null, "vswitches": {"cn-hangzhou-b": ["vsw-n"]}}'
    found = parse(MULTI_IP.encode(), patch=patch)
    assert found.pool.max_pool_size == 20
    assert found.security_groups == ()
    assert found.vswitches == {"cn-hangzhou-a": ("vsw-xxxxxxxxx",), "cn-hangzhou-b": ("vsw-n",)}
    with pytest.raises(ConfigError, match="terway-config"):
        parse(MULTI_IP.encode(), patch=b"x")
