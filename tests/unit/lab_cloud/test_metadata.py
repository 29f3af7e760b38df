"""The instance metadata service: paths, tokens, faults."""

from __future__ import annotations

import json
import urllib.request
import uuid
from dataclasses import replace
from datetime import datetime

import pytest

from lab.cloud.faults import MetadataFault
from lab.cloud.metadata_items import ABSENT
from lab.spec import NodeSpec, gateway_of
from tests.unit.lab_cloud.bench import ZONE_B_VSWITCH, Bench

TTL = "X-aliyun-ecs-metadata-token-ttl-seconds"


def _token(cloud: Bench, ttl: str = "21600") -> tuple[int, str]:
    return cloud.get("api/token", method="PUT", **{TTL.replace("-", "_"): ttl})


def test_what_an_instance_reads_of_itself(cloud: Bench) -> None:
    expected = {
        "instance-id": "i-node1",
        "instance/instance-type": "ecs.g7.xlarge",
        "region-id": "cn-hangzhou",
        "zone-id": "cn-hangzhou-a",
        "vswitch-id": "vsw-nodes",
        "vpc-id": "vpc-lab",
        "vpc-cidr-block": "10.0.0.0/16",
        "hostname": "node1",
        "private-ipv4": "10.0.0.1",
        "ram/security-credentials/": "KubernetesWorkerRole",
    }
    assert {item: cloud.meta(item) for item in expected} == expected
    mac = cloud.meta("mac")
    assert cloud.meta("network/interfaces/macs/") == f"{mac}/"
    assert cloud.meta(f"network/interfaces/macs/{mac}/network-interface-id") == "eni-node1"
    cloud.me[0] = "i-node2"
    assert cloud.meta("instance-id") == "i-node2"


def test_an_eni(cloud: Bench) -> None:
    made = cloud.create(secondary_private_ip_address_count=1, ipv_6address_count=2)
    cloud.attach(made.network_interface_id)
    base = f"network/interfaces/macs/{made.mac_address}/"
    addresses = [entry.private_ip_address for entry in made.private_ip_sets.private_ip_set]
    v6 = [entry.ipv_6address for entry in made.ipv_6sets.ipv_6set]
    expected = {
        "network-interface-id": made.network_interface_id,
        "primary-ip-address": addresses[0],
        "vswitch-id": "vsw-pods",
        "vswitch-cidr-block": "10.0.16.0/20",
        "vswitch-ipv6-cidr-block": "2001:db8:10:1::/64",
        "gateway": "10.0.31.253",
        "ipv6-gateway": "2001:db8:10:1:ffff:ffff:ffff:fffd",
        "netmask": "255.255.240.0",
        "vpc-cidr-block": "10.0.0.0/16",
        "ipv6s": f"[{v6[0]},{v6[1]}]",
    }
    assert {item: cloud.meta(base + item) for item in expected} == expected
    assert json.loads(cloud.meta(base + "private-ipv4s")) == addresses
    assert set(expected) <= set(cloud.meta(base).split("\n"))


_OF_THE_VSWITCH = ("ipv6-gateway", "vswitch-ipv6-cidr-block", "vpc-ipv6-cidr-blocks")


def test_ipv6_items_are_the_vswitchs_but_for_the_addresses(cloud: Bench) -> None:
    made = cloud.create()
    cloud.attach(made.network_interface_id)
    base = f"network/interfaces/macs/{made.mac_address}/"
    assert cloud.get(f"meta-data/{base}ipv6s")[0] == 404
    gateway, block, vpc = (cloud.meta(base + item) for item in _OF_THE_VSWITCH)
    spec = next(v for v in cloud.state.spec.vswitches if v.vswitch_id == "vsw-pods")
    assert spec.cidr_v6 is not None
    assert (gateway, block) == (str(gateway_of(spec.cidr_v6)), str(spec.cidr_v6))
    assert vpc == f"[{cloud.state.spec.cidr_v6}]"


def test_a_vswitch_without_ipv6_has_no_such_items(cloud: Bench) -> None:
    node = NodeSpec("b", zone="cn-hangzhou-b", vswitch_id=ZONE_B_VSWITCH)
    cloud.me[0] = cloud.state.add_instance(node)
    base = f"meta-data/network/interfaces/macs/{cloud.meta('mac')}/"
    for item in (*_OF_THE_VSWITCH, "ipv6s"):
        assert cloud.get(base + item)[0] == 404


def test_documented_items_of_an_instance(cloud: Bench) -> None:
    """Each that ECS's page on instance metadata items lists and that an instance of the lab has."""
    expected = {
        "image-id": "debian_12_x64_20G_lab.vhd",
        "dns-conf/nameservers": "100.100.2.136\n100.100.2.138",
        "ntp-conf/ntp-servers": "ntp1.aliyun.com\nntp1.cloud.aliyuncs.com",
        "source-address": "http://mirrors.cloud.aliyuncs.com",
        "hibernation/configured": "false",
        "owner-account-id": "1000000000000001",
        "instance/max-netbw-egress": "3072000",
        "instance/max-netbw-ingress": "3072000",
        "instance/instance-type-spec/max-netpps": "1100000",
        "instance/instance-type-spec/max-connections": "500000",
        "instance/virtualization-solution": "ECS Virt",
        "instance/virtualization-solution-version": "2.0",
    }
    assert {item: cloud.meta(item) for item in expected} == expected
    serial = cloud.meta("serial-number")
    assert str(uuid.UUID(serial)) == serial
    assert datetime.strptime(cloud.meta("instance/last-host-landing-time"), "%Y-%m-%d %H:%M:%S")
    cloud.me[0] = "i-node2"
    assert cloud.meta("serial-number") != serial


def test_the_primary_enis_other_addresses(cloud: Bench) -> None:
    assert cloud.get("meta-data/sub-private-ipv4-list") == (404, "")
    added = cloud.assign("eni-node1", 2)
    assert cloud.meta("sub-private-ipv4-list") == "\n".join(added)


@pytest.mark.parametrize("item", sorted(ABSENT))
def test_documented_items_that_no_instance_of_the_lab_has(cloud: Bench, item: str) -> None:
    assert ABSENT[item], "why it is absent"
    assert cloud.get(f"meta-data/{item}") == (404, "")


def test_listings(cloud: Bench) -> None:
    assert "instance/" in cloud.meta("").split("\n")
    assert cloud.meta("instance/") == cloud.meta("instance")
    assert {"instance-name", "instance-type", "instance-type-spec/"} <= set(
        cloud.meta("instance").split("\n")
    )
    assert cloud.meta("ram/") == "security-credentials/"
    assert "meta-data/" in cloud.get("")[1].split("\n")


@pytest.mark.parametrize(
    "path",
    [
        "meta-data/none",
        "meta-data/instance-id/",
        "meta-data/instance-id/x",
        "meta-data/network/interfaces/macs/00:16:3e:ff:ff:ff/gateway",
        "meta-data/ram/security-credentials/AnotherRole",
        "other",
    ],
)
def test_what_is_not_there(cloud: Bench, path: str) -> None:
    assert cloud.get(path) == (404, "")


def test_tokens(cloud: Bench) -> None:
    status, token = _token(cloud, "60")
    assert status == 200
    assert cloud.get("meta-data/instance-id", token=token) == (200, "i-node1")
    assert cloud.get("meta-data/instance-id", token="unknown") == (401, "")
    cloud.me[0] = "i-node2"
    assert cloud.get("meta-data/instance-id", token=token) == (401, "")
    cloud.me[0] = "i-node1"
    cloud.clock.advance(60)
    assert cloud.get("meta-data/instance-id", token=token) == (401, "")
    assert cloud.get("meta-data/instance-id") == (200, "i-node1")


@pytest.mark.parametrize("ttl", ["0", "21601", "-1", "x", ""])
def test_bad_lifetimes(cloud: Bench, ttl: str) -> None:
    assert _token(cloud, ttl)[0] == 400


def test_enforced_tokens(cloud: Bench) -> None:
    cloud.metadata.service.enforce_token = True
    assert cloud.get("meta-data/instance-id") == (403, "")
    _, token = _token(cloud)
    assert cloud.get("meta-data/instance-id", token=token) == (200, "i-node1")


def test_an_instance_without_a_role(cloud: Bench) -> None:
    with cloud.state.transaction():
        instance = cloud.state.resources.instance("i-node1")
        cloud.state.resources.put_instance(replace(instance, ram_role=""))
    assert cloud.get("meta-data/ram/security-credentials/")[0] == 404
    assert "ram/" not in cloud.meta("").split("\n")


def test_nobody_knows_this_caller(cloud: Bench) -> None:
    cloud.me[0] = None
    assert cloud.get("meta-data/instance-id") == (404, "")


def test_the_caller_is_known_by_any_address_of_its_enis(cloud: Bench) -> None:
    made = cloud.create(vswitch="vsw-pods")
    assert cloud.state.instance_at("10.0.0.2") == "i-node2"
    assert cloud.state.instance_at(made.private_ip_address) is None
    cloud.attach(made.network_interface_id, "i-node2")
    assert cloud.state.instance_at(made.private_ip_address) == "i-node2"
    assert cloud.state.instance_at("127.0.0.1") is None


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_faults_by_path(cloud: Bench, status: int) -> None:
    cloud.state.metadata_faults.add(MetadataFault("meta-data/zone", status=status, count=1))
    assert cloud.meta("region-id") == "cn-hangzhou"
    assert cloud.get("meta-data/zone-id") == (status, "")
    assert cloud.meta("zone-id") == "cn-hangzhou-a"


def test_a_fault_of_one_instance_and_of_the_token(cloud: Bench) -> None:
    cloud.state.metadata_faults.add(MetadataFault(instance_id="i-node2", status=500))
    cloud.state.metadata_faults.add(MetadataFault("api/token", status=503))
    assert cloud.meta("zone-id") == "cn-hangzhou-a"
    assert _token(cloud) == (503, "")
    cloud.me[0] = "i-node2"
    assert cloud.get("meta-data/zone-id")[0] == 500


def test_a_timeout(cloud: Bench) -> None:
    """The service's own wait ends with it, so that closing the lab does not hang."""
    cloud.state.metadata_faults.add(MetadataFault("meta-data/mac", latency=30.0))
    url = f"http://127.0.0.1:{cloud.metadata_port}/latest/meta-data/mac"
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(url, timeout=0.05)
    cloud.metadata.stop()


def test_reads_are_counted_by_path(cloud: Bench) -> None:
    cloud.meta("mac")
    cloud.meta("mac")
    cloud.get("meta-data/none")
    assert cloud.state.metadata_calls() == {"meta-data/mac": 2, "meta-data/none": 1}
    cloud.state.reset_calls()
    assert cloud.state.metadata_calls() == {}


def test_only_enis_of_this_instance_are_listed(cloud: Bench) -> None:
    made = cloud.create(vswitch="vsw-pods")
    elsewhere = cloud.create(vswitch=ZONE_B_VSWITCH)
    cloud.attach(made.network_interface_id)
    cloud.attach(cloud.create().network_interface_id, "i-node2")
    macs = cloud.meta("network/interfaces/macs/").split("\n")
    assert sorted(macs) == sorted([f"{cloud.meta('mac')}/", f"{made.mac_address}/"])
    assert f"{elsewhere.mac_address}/" not in macs
