from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from cni import conf
from cni.conf import Attachment, Bandwidth, NetworkConf
from cni.errors import CniError, Code
from cni.plugin import (
    BandwidthMode,
    IpStack,
    PluginConf,
    PolicyProvider,
    SymmetricRouting,
    VirtualType,
    VlanStrip,
)
from cni.version import SUPPORTED, CniVersion

NETWORK_MODES = """
{
  "cniVersion": "0.4.0",
  "name": "terway",
  "type": "terway",
  "eniip_virtual_type": "IPVlan",
  "trunk_on": true
}
"""


def stdin(**keys: object) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "terway", "type": "terway"} | keys).encode()


def read(**keys: object) -> NetworkConf:
    return conf.parse(stdin(**keys))


def refused(data: bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        conf.parse(data)
    return caught.value


def test_configuration_of_network_modes() -> None:
    found = conf.parse(NETWORK_MODES.encode())
    assert found.cni_version is CniVersion.V0_4_0
    assert found.name == "terway"
    assert found.plugin == PluginConf(virtual_type=VirtualType.IPVLAN, trunk_on=True)
    assert found.warnings == ()


def test_defaults() -> None:
    found = read()
    assert found.plugin == PluginConf()
    assert found.plugin.virtual_type is VirtualType.POLICY_ROUTE
    assert (found.plugin.mtu, found.prev_result, found.valid_attachments) == (1500, None, None)


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_version(version: CniVersion) -> None:
    assert read(cniVersion=version).cni_version is version


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("IPVlan", VirtualType.IPVLAN),
        ("ipvlan", VirtualType.IPVLAN),
        ("IPVLAN", VirtualType.IPVLAN),
        ("PolicyRoute", VirtualType.POLICY_ROUTE),
        ("policyroute", VirtualType.POLICY_ROUTE),
        ("veth", VirtualType.POLICY_ROUTE),
        ("Veth", VirtualType.POLICY_ROUTE),
        ("datapathv2", VirtualType.DATAPATH_V2),
        ("DataPathV2", VirtualType.DATAPATH_V2),
        ("", VirtualType.POLICY_ROUTE),
        (None, VirtualType.POLICY_ROUTE),
    ],
)
def test_virtual_types(word: str | None, mode: VirtualType) -> None:
    assert read(eniip_virtual_type=word).plugin.virtual_type is mode


def test_every_setting() -> None:
    found = read(
        mtu=8500,
        auto_mtu=True,
        host_stack_cidrs=["169.254.20.10/32", "10.1.2.3/8", "fd00::/8"],
        disable_host_peer=True,
        vlan_strip_type="vlan",
        bandwidth_mode="edt",
        enable_network_priority=True,
        network_policy_provider="ebpf",
        ip_stack="dual",
        symmetric_routing=True,
        symmetric_routing_config={"interface": "eth1", "table_id": 101, "backend": "nftables"},
        debug=True,
        capabilities={"bandwidth": True},
        veth_prefix="veth",
        cilium_args="--a --b",
        ipam={},
        dns={},
    )
    assert found.warnings == ()
    assert found.plugin == PluginConf(
        mtu=8500,
        auto_mtu=True,
        host_stack_cidrs=(ip_network("169.254.20.10/32"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        disable_host_peer=True,
        vlan_strip_type=VlanStrip.VLAN,
        bandwidth_mode=BandwidthMode.EDT,
        enable_network_priority=True,
        network_policy_provider=PolicyProvider.EBPF,
        ip_stack=IpStack.DUAL,
        symmetric_routing=True,
        symmetric=SymmetricRouting(interface="eth1", table_id=101, backend="nftables"),
        debug=True,
        capabilities={"bandwidth": True},
        cilium={"cilium_args": "--a --b"},
    )


def test_runtime_config_as_containerd_writes_it() -> None:
    """Go field names, where the specification's examples have lower case."""
    found = read(
        runtimeConfig={
            "bandwidth": {
                "IngressRate": 10_000_000,
                "IngressBurst": 4294967295,
                "EgressRate": 20_000_000,
                "EgressBurst": 4294967295,
            },
            "dns": {"Servers": ["10.96.0.10"], "Searches": [], "Options": None},
            "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
            "io.kubernetes.cri.pod-annotations": {"k8s.aliyun.com/pod-ip": "10.0.0.9"},
        }
    ).runtime
    assert found.bandwidth == Bandwidth(ingress=10_000_000, egress=20_000_000)
    assert found.port_mappings[0]["HostPort"] == 8080
    assert found.dns["Servers"] == ["10.96.0.10"]
    assert found.pod_annotations == {"k8s.aliyun.com/pod-ip": "10.0.0.9"}


def test_keys_in_any_case_and_the_exact_one_first() -> None:
    found = read(MTU=1400, Debug=True, debug=False)
    assert (found.plugin.mtu, found.plugin.debug) == (1400, False)
    assert found.warnings == ()


def test_unknown_keys_are_warnings() -> None:
    found = read(eniip_virtual_typ="ipvlan", flavour={"a": 1})
    assert found.warnings == (
        'unknown key "eniip_virtual_typ" is ignored, did you mean eniip_virtual_type?',
        'unknown key "flavour" is ignored',
    )


ALL = [Attachment("c1", "eth0")]
LISTED = [{"containerID": "c1", "ifname": "eth0"}]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"cni.dev/valid-attachments": None}, None),
        ({"cni.dev/valid-attachments": []}, ()),
        ({"cni.dev/valid-attachments": LISTED}, (Attachment("c1", "eth0"),)),
        ({"cni.dev/attachments": LISTED}, (Attachment("c1", "eth0"),)),
        ({"cni.dev/attachments": LISTED, "cni.dev/valid-attachments": LISTED}, (Attachment("c1", "eth0"),)),
    ],
)
def test_valid_attachments(keys: dict[str, object], expected: tuple[Attachment, ...] | None) -> None:
    """Absent is "no information" and must not be read as "nothing is in use"."""
    assert read(**keys).valid_attachments == expected


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON at line 1 column 1"),
        (b"not json", "not JSON at line 1 column 1"),
        (b'{"name":', "not JSON at line 1"),
        (b"[]", "expected a JSON object, got a list"),
        (b"null", "expected a JSON object, got null"),
        (b"3", "expected a JSON object, got a number"),
        (b'{"mtu": NaN}', "NaN is not a JSON number"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"mtu":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"name":"\\ud800"}', "surrogate"),
    ],
)
def test_not_a_json_object(data: bytes, why: str) -> None:
    error = refused(data)
    assert (error.code, error.msg) == (Code.DECODE, "failed to parse network config")
    assert why in error.details


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (
            {"eniip_virtual_type": "vxlan"},
            'eniip_virtual_type is "vxlan", allowed: IPVlan, PolicyRoute, veth, ',
        ),
        ({"eniip_virtual_type": 1}, "eniip_virtual_type is 1, allowed: a string"),
        ({"mtu": -1}, "mtu is -1, allowed: a whole number from 576 to 9000"),
        ({"mtu": 575}, "mtu is 575"),
        ({"mtu": 9001}, "mtu is 9001"),
        ({"mtu": "1500"}, 'mtu is "1500"'),
        ({"mtu": 1500.0}, "mtu is 1500.0"),
        ({"mtu": False}, "mtu is false"),
        ({"trunk_on": "true"}, 'trunk_on is "true", allowed: true or false, without quotes'),
        ({"host_stack_cidrs": ["10.0.0.1"]}, 'host_stack_cidrs is "10.0.0.1", allowed: CIDRs'),
        ({"host_stack_cidrs": ["10.0.0.0/33"]}, 'host_stack_cidrs is "10.0.0.0/33"'),
        ({"host_stack_cidrs": ["10.0.0.0/255.0.0.0"]}, "host_stack_cidrs is"),
        ({"host_stack_cidrs": ["fe80::1%eth0/64"]}, "host_stack_cidrs is"),
        ({"host_stack_cidrs": "10.0.0.0/8"}, "host_stack_cidrs is"),
        ({"host_stack_cidrs": [1]}, "host_stack_cidrs is [1]"),
        ({"bandwidth_mode": "htb"}, 'bandwidth_mode is "htb", allowed: tc, edt'),
        ({"vlan_strip_type": "x"}, "vlan_strip_type is"),
        ({"ip_stack": "ipv6"}, 'ip_stack is "ipv6", allowed: ipv4, dual'),
        ({"capabilities": {"bandwidth": "yes"}}, "capabilities is"),
        ({"symmetric_routing_config": {"mark": "0x10"}}, 'symmetric_routing_config.mark is "0x10"'),
        ({"runtimeConfig": []}, "runtimeConfig is [], allowed: a JSON object"),
        ({"runtimeConfig": {"bandwidth": {"IngressRate": -5}}}, "runtimeConfig.bandwidth.ingressRate is -5"),
        ({"runtimeConfig": {"portMappings": [1]}}, "runtimeConfig.portMappings is [1]"),
        ({"prevResult": "x"}, 'prevResult is "x"'),
        ({"cni.dev/attachments": [{}]}, "cni.dev/attachments[0].containerID is null"),
        ({"cni.dev/attachments": [{"containerID": "c"}]}, "cni.dev/attachments[0].ifname is null"),
        ({"name": ""}, 'name is ""'),
        ({"name": "a b"}, 'name is "a b"'),
        ({"name": "../x"}, 'name is "../x"'),
        ({"type": "bridge"}, 'type is "bridge", allowed: "terway"'),
        ({"type": None}, "type is null"),
        ({"cniVersion": 1}, "cniVersion is 1"),
    ],
)
def test_bad_value_names_key_value_and_what_is_allowed(keys: dict[str, object], named: str) -> None:
    error = refused(stdin(**keys))
    assert (error.code, error.msg) == (Code.CONFIG, "invalid network config")
    assert named in error.details
    assert ", allowed: " in error.details


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.5.0", "1.2.0", "2.0.0", "x", ""])
def test_incompatible_version_names_the_supported(version: str) -> None:
    error = refused(stdin(cniVersion=version))
    assert error.code == Code.INCOMPATIBLE_VERSION
    assert f'config is "{version or "0.1.0"}"' in error.details
    assert "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in error.details


def test_tolerant_keeps_what_a_removal_needs() -> None:
    data = stdin(eniip_virtual_type="vxlan", runtimeConfig=3, prevResult=[], mtu="x")
    assert refused(data).code == Code.CONFIG
    found = conf.parse(data, tolerant=True)
    assert (found.plugin, found.prev_result, found.name) == (PluginConf(), None, "terway")
    assert [line.split(" is ")[0] for line in found.warnings] == [
        "eniip_virtual_type",
        "runtimeConfig",
        "prevResult",
    ]


@pytest.mark.parametrize("data", [b"x", stdin(name="/"), stdin(type="x"), stdin(cniVersion="0.1.0")])
def test_tolerant_does_not_tolerate_a_bad_envelope(data: bytes) -> None:
    with pytest.raises(CniError):
        conf.parse(data, tolerant=True)


@pytest.mark.parametrize(
    ("data", "named"),
    [(b'{"cniVersion":"0.3.0"}', "0.3.0"), (b'{"cniVersion":3}', ""), (b"{}", ""), (b"x", ""), (b"[]", "")],
)
def test_named_version(data: bytes, named: str) -> None:
    assert conf.named_version(data) == named
