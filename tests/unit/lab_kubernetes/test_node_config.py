"""What a node's programs are told, and what they must not be."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from lab.kubernetes import node_config
from lab.nodes.agent import cni_chain, cni_conf
from lab.nodes.host import Host
from lab.spec import IpStack, ProxyMode

HOST = Host(
    "node7",
    "cn-hangzhou.i-node7",
    "ecs.g7.xlarge",
    "cn-hangzhou",
    "cn-hangzhou-a",
    "10.0.0.7",
    "2001:db8:10::7",
)
PODS, PODS_V6 = (IPv4Network("10.0.16.0/20"),), (IPv6Network("2001:db8:10:1::/64"),)


def test_containerd_reads_it_and_pulls_no_sandbox_image() -> None:
    config = tomllib.loads(node_config.containerd())
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["version"] == 2
    assert cri["sandbox_image"].startswith("localhost/")
    assert cri["cni"]["conf_dir"] == "/etc/cni/net.d"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


def test_a_kubelet_runs_on_either_kind_of_control_groups() -> None:
    assert node_config.kubelet(HOST, unified_cgroups=False)["failCgroupV1"] is False
    assert node_config.kubelet(HOST, unified_cgroups=True)["failCgroupV1"] is True


def test_a_kubelet_asks_who_comes_and_writes_nothing_of_the_machines() -> None:
    config = node_config.kubelet(HOST, unified_cgroups=False)
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["volumePluginDir"].startswith("/var/lib/kubelet/")
    assert config["clusterDNS"] == ["172.21.0.10"]


@pytest.mark.parametrize(
    ("kind", "pods"), [("ecs.g7.xlarge", 3 * 15), ("ecs.g7.4xlarge", 7 * 30), ("ecs.g6.large", 6)]
)
def test_a_kubelet_takes_as_many_pods_as_its_type_has_addresses_for(kind: str, pods: int) -> None:
    host = replace(HOST, instance_type=kind)
    assert node_config.kubelet(host, unified_cgroups=False)["maxPods"] == pods


def test_a_kubelet_takes_as_many_pods_as_it_is_told() -> None:
    assert node_config.kubelet(HOST, unified_cgroups=False, max_pods=110)["maxPods"] == 110


@pytest.mark.parametrize(
    ("stack", "addresses", "dns"),
    [
        (IpStack.IPV4, "10.0.0.7", "172.21.0.10"),
        (IpStack.DUAL, "10.0.0.7,2001:db8:10::7", "172.21.0.10"),
        (IpStack.IPV6, "2001:db8:10::7", "fd00:21::a"),
    ],
)
def test_a_node_is_known_by_the_families_of_its_cluster(stack: IpStack, addresses: str, dns: str) -> None:
    assert f"--node-ip={addresses}" in node_config.kubelet_arguments(HOST, stack)
    assert node_config.kubelet(HOST, unified_cgroups=False, stack=stack)["clusterDNS"] == [dns]


@pytest.mark.parametrize(
    ("pods", "bound", "told"),
    [
        (PODS, "0.0.0.0", "10.0.16.0/20"),
        (PODS + PODS_V6, "0.0.0.0", "10.0.16.0/20,2001:db8:10:1::/64"),
        (PODS_V6, "::", "2001:db8:10:1::/64"),
    ],
)
def test_the_proxy_has_the_families_of_the_pods(pods: Any, bound: str, told: str) -> None:
    config = node_config.proxy(HOST, ProxyMode.NFTABLES, pods)
    assert (config["bindAddress"], config["clusterCIDR"]) == (bound, told)


def test_a_node_says_which_instance_it_is() -> None:
    assert node_config.kubelet(HOST, unified_cgroups=False)["providerID"] == "cn-hangzhou.i-node7"
    arguments = node_config.kubelet_arguments(HOST)
    assert "--node-ip=10.0.0.7" in arguments
    (labels,) = (a for a in arguments if a.startswith("--node-labels="))
    assert "topology.kubernetes.io/zone=cn-hangzhou-a" in labels


def test_the_proxy_leaves_conntracks_size_alone() -> None:
    config = node_config.proxy(HOST, ProxyMode.IPTABLES, PODS)
    assert config["conntrack"]["maxPerCore"] == config["conntrack"]["min"] == 0
    assert (config["mode"], config["clusterCIDR"]) == ("iptables", "10.0.16.0/20")


def test_the_chain_has_terway_first() -> None:
    chain = cni_chain(cni_conf())
    assert [p["type"] for p in chain["plugins"]] == ["terway", "portmap"]
    assert chain["plugins"][0]["eniip_virtual_type"] == "PolicyRoute"
    assert {"name", "cniVersion"} <= set(chain)
