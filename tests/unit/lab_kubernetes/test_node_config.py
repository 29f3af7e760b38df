"""What a node's programs are told, and what they must not be."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from lab.kubernetes import node_config
from lab.nodes.agent import cni_chain, cni_conf
from lab.nodes.host import Host
from lab.spec import ProxyMode

HOST = Host("node7", "cn-hangzhou.i-node7", "ecs.g7.xlarge", "cn-hangzhou", "cn-hangzhou-a", "10.0.0.7")


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
    ("kind", "pods"), [("ecs.g7.xlarge", 110), ("ecs.g7.4xlarge", 7 * 30 + 10), ("ecs.g6.large", 110)]
)
def test_a_kubelet_takes_as_many_pods_as_its_type_has_addresses_for(kind: str, pods: int) -> None:
    host = replace(HOST, instance_type=kind)
    assert node_config.kubelet(host, unified_cgroups=False)["maxPods"] == pods


def test_a_node_says_which_instance_it_is() -> None:
    assert node_config.kubelet(HOST, unified_cgroups=False)["providerID"] == "cn-hangzhou.i-node7"
    arguments = node_config.kubelet_arguments(HOST)
    assert "--node-ip=10.0.0.7" in arguments
    (labels,) = (a for a in arguments if a.startswith("--node-labels="))
    assert "topology.kubernetes.io/zone=cn-hangzhou-a" in labels


def test_the_proxy_leaves_conntracks_size_alone() -> None:
    config = node_config.proxy(HOST, ProxyMode.IPTABLES, IPv4Network("10.0.16.0/20"))
    assert config["conntrack"]["maxPerCore"] == config["conntrack"]["min"] == 0
    assert (config["mode"], config["clusterCIDR"]) == ("iptables", "10.0.16.0/20")


def test_the_chain_has_terway_first() -> None:
    chain = cni_chain(cni_conf())
    assert [p["type"] for p in chain["plugins"]] == ["terway", "portmap"]
    assert chain["plugins"][0]["eniip_virtual_type"] == "PolicyRoute"
    assert {"name", "cniVersion"} <= set(chain)
