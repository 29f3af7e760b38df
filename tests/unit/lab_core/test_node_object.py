"""What a node without a kubelet registers: all that a kubelet and the cloud's controller would write."""

from __future__ import annotations

import os

import pytest

from lab.apiserver.port import node_object
from lab.nodes.host import Host

HOST = Host("node7", "cn-hangzhou.i-node7", "ecs.g7.xlarge", "cn-hangzhou", "cn-hangzhou-a", "10.0.0.7")


def test_labels_addresses_and_provider_id() -> None:
    node = node_object(HOST)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert node["metadata"]["labels"] == {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/instance-type": "ecs.g7.xlarge",
        "beta.kubernetes.io/os": "linux",
        "failure-domain.beta.kubernetes.io/region": "cn-hangzhou",
        "failure-domain.beta.kubernetes.io/zone": "cn-hangzhou-a",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": "node7",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "ecs.g7.xlarge",
        "topology.kubernetes.io/region": "cn-hangzhou",
        "topology.kubernetes.io/zone": "cn-hangzhou-a",
    }
    assert node["spec"] == {"providerID": "cn-hangzhou.i-node7"}
    assert node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.7"},
        {"type": "Hostname", "address": "node7"},
    ]


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_the_architecture_is_in_kubernetes_words(
    monkeypatch: pytest.MonkeyPatch, machine: str, architecture: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "v", machine)))
    assert HOST.all_labels["kubernetes.io/arch"] == architecture
