"""IPv4, IPv6 or both: what each part of a cluster is told, and that the parts agree."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from lab import families
from lab.apiserver import access, arguments, certificates
from lab.apiserver.files import KubeDir
from lab.kubernetes import dns, manifest
from lab.messages import LabError
from lab.nodes import agent
from lab.spec import IpStack, KubernetesSpec, LabSpec, NodeSpec

RANGES = {
    IpStack.IPV4: "172.21.0.0/20",
    IpStack.DUAL: "172.21.0.0/20,fd00:21::/112",
    IpStack.IPV6: "fd00:21::/112",
}
STACKS = tuple(IpStack)


def spec(stack: IpStack, **changes: Any) -> LabSpec:
    return replace(LabSpec(), kube_bin="/b", kubernetes=KubernetesSpec(ip_stack=stack), **changes)


def option(words: list[str], name: str) -> str:
    (value,) = (word.split("=", 1)[1] for word in words if word.startswith(f"--{name}="))
    return value


@pytest.mark.parametrize("stack", STACKS)
def test_server_controllers_and_agents_have_the_same_service_ranges(stack: IpStack, tmp_path: Path) -> None:
    directory = KubeDir(tmp_path)
    server = arguments.api_server(directory, cluster=True, stack=stack)
    controllers = arguments.controller_manager(directory, stack)
    assert option(server, "service-cluster-ip-range") == RANGES[stack]
    assert option(controllers, "service-cluster-ip-range") == RANGES[stack]
    assert agent.eni_conf(spec(stack))["service_cidr"] == RANGES[stack]


@pytest.mark.parametrize("stack", STACKS)
def test_the_server_is_advertised_in_the_services_primary_family(stack: IpStack, tmp_path: Path) -> None:
    """Else kube-apiserver does not start (validatePublicIPServiceClusterIPRangeIPFamilies)."""
    words = arguments.api_server(KubeDir(tmp_path), cluster=True, stack=stack)
    advertised = ip_address(option(words, "advertise-address"))
    assert advertised.version == families.kubernetes_service(stack).version
    # The lab's own client comes by IPv4 in any case.
    assert option(words, "bind-address") == ("100.100.0.20" if stack is IpStack.IPV4 else "::")


def test_an_address_of_ipv6_is_written_into_urls_and_certificates(tmp_path: Path) -> None:
    address = families.server_address(IpStack.IPV6)
    assert access.secure_url(address) == "https://[2001:db8:ffff::20]:6443"
    assert access.secure_url(IPv4Address("100.100.0.20")) == "https://100.100.0.20:6443"
    certificates.make(KubeDir(tmp_path), (address, families.kubernetes_service(IpStack.IPV6)))
    signed = x509.load_pem_x509_certificate(KubeDir(tmp_path).certificate("server").read_bytes())
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [address, ip_address("fd00:21::1")]


def test_agents_are_told_of_ipv6_and_of_nothing_where_there_is_none() -> None:
    assert "ip_stack" not in agent.eni_conf(LabSpec())
    assert "ip_stack" not in agent.eni_conf(spec(IpStack.IPV4))
    assert agent.eni_conf(spec(IpStack.DUAL))["ip_stack"] == "dual"
    # The agent has no word for IPv6 alone.
    assert agent.eni_conf(spec(IpStack.IPV6))["ip_stack"] == "dual"


@pytest.mark.parametrize(
    ("stack", "addresses", "policy"),
    [
        (IpStack.IPV4, ["172.21.0.10"], "SingleStack"),
        (IpStack.DUAL, ["172.21.0.10", "fd00:21::a"], "RequireDualStack"),
        (IpStack.IPV6, ["fd00:21::a"], "SingleStack"),
    ],
)
def test_dns_has_an_address_in_each_family(stack: IpStack, addresses: list[str], policy: str) -> None:
    (service,) = (item["spec"] for item in dns.objects(stack) if item["kind"] == "Service")
    assert (service["clusterIP"], service["clusterIPs"]) == (addresses[0], addresses)
    assert service["ipFamilies"] == [f"IPv{ip_address(a).version}" for a in addresses]
    assert service["ipFamilyPolicy"] == policy


def test_pods_have_the_families_of_their_cluster() -> None:
    of = {stack: families.joined(families.pod_ranges(spec(stack))) for stack in STACKS}
    assert of == {
        IpStack.IPV4: "10.0.16.0/20",
        IpStack.DUAL: "10.0.16.0/20,2001:db8:10:1::/64",
        IpStack.IPV6: "2001:db8:10:1::/64",
    }


def test_without_a_proxy_the_server_is_told_by_its_address() -> None:
    assert manifest.server(IpStack.IPV6)["KUBERNETES_SERVICE_HOST"] == "2001:db8:ffff::20"
    assert manifest.server(IpStack.DUAL)["KUBERNETES_SERVICE_HOST"] == "100.100.0.20"


def test_ipv6_that_cannot_be_had_is_refused_before_anything_starts() -> None:
    families.check(spec(IpStack.IPV4, nodes=(NodeSpec("old", "ecs.g6.large"),)))
    families.check(spec(IpStack.DUAL))
    with pytest.raises(
        LabError, match=r"dual wants IPv6, and an ENI of ecs\.g6\.large has 1 IPv6 for 6 IPv4"
    ):
        families.check(spec(IpStack.DUAL, nodes=(NodeSpec("old", "ecs.g6.large"),)))
    without = tuple(replace(vswitch, cidr_v6=None) for vswitch in LabSpec().vswitches)
    with pytest.raises(LabError, match="ipv6 wants IPv6, and vSwitch vsw-nodes has none: give it a cidr_v6"):
        families.check(spec(IpStack.IPV6, vswitches=without))
