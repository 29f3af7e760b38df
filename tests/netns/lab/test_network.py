"""What a node finds on the wire: the cloud's services, other nodes, the outside, ENIs that come and go."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest

from datapath import namespace
from lab.client import Lab
from lab.messages import LabError
from lab.nodes.node import LabNode
from tests.netns.fabric import frames as f
from tests.netns.fabric.talk import bootp
from tests.netns.lab.waiting import wait_for

_SDK = """
import sys
from alibabacloud_ecs20140526.client import Client
from alibabacloud_ecs20140526 import models as m
from alibabacloud_tea_openapi.models import Config
key, secret, what, eni = sys.argv[1:5]
c = Client(Config(access_key_id=key, access_key_secret=secret, endpoint="100.100.0.10", protocol="HTTP",
                  region_id="cn-hangzhou"))
if what == "create":
    r = c.create_network_interface(m.CreateNetworkInterfaceRequest(
        region_id="cn-hangzhou", v_switch_id="vsw-pods", security_group_id="sg-cluster"))
    eni = r.body.network_interface_id
    c.attach_network_interface(m.AttachNetworkInterfaceRequest(
        region_id="cn-hangzhou", network_interface_id=eni, instance_id="i-node1"))
    print(eni, r.body.mac_address)
else:
    c.detach_network_interface(m.DetachNetworkInterfaceRequest(
        region_id="cn-hangzhou", network_interface_id=eni, instance_id="i-node1"))
"""

_ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_connection((sys.argv[1], 7), 5) as s:
    s.sendall(b"stream")
    print(s.recv(10).decode())
with socket.socket(family, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.sendto(b"d" * int(sys.argv[2]), (sys.argv[1], 7))
    print(len(s.recv(9000)))
"""


@pytest.fixture
def node(lab: Lab) -> LabNode:
    return lab.node("node1")


def sdk(lab: Lab, node: LabNode, what: str, eni: str = "") -> str:
    return node.python(_SDK, lab.spec.access_key, lab.spec.access_secret, what, eni).strip()


def devices(node: LabNode) -> dict[str, str]:
    """Device by MAC, as the node's own sysfs has them."""
    lines = node.exec(
        ["sh", "-c", "cd /sys/class/net; for d in *; do echo $d $(cat $d/address); done"]
    ).stdout
    return {mac: name for name, mac in (line.split() for line in lines.splitlines())}


@pytest.mark.parametrize("address", ["203.0.113.10", "2001:db8:ffff::10"])
@pytest.mark.parametrize("size", [64, 1200, 3000])
def test_outside_echoes(node: LabNode, address: str, size: int) -> None:
    assert node.python(_ECHO, address, str(size)).split() == ["stream", str(size)]


def test_node_has_its_address_and_default_route(node: LabNode) -> None:
    routes = node.exec(["ip", "route", "show", "default"]).stdout
    assert "via 10.0.15.253 dev eth0" in routes
    assert (
        "via 2001:db8:10:0:ffff:ffff:ffff:fffd" in node.exec(["ip", "-6", "route", "show", "default"]).stdout
    )
    shown = node.exec(["ip", "-br", "addr", "show", "eth0"]).stdout
    assert f"{node.address}/20" in shown
    assert "tentative" not in shown


def test_nodes_reach_each_other(lab: Lab, node: LabNode) -> None:
    """Sockets of this process, opened in the nodes' namespaces. Members of a group reach each other."""
    here, there = node.netns_fd(), lab.node("node2").netns_fd()
    with namespace.entered(there):
        server = socket.create_server((lab.node("node2").address, 8080))
    with namespace.entered(here):
        client = socket.create_connection((lab.node("node2").address, 8080), 5)
    with server, client:
        assert server.accept()[1][0] == node.address


def test_metadata_answers_each_node_as_itself(lab: Lab) -> None:
    program = (
        "import urllib.request as r;"
        "print(r.urlopen('http://100.100.100.200/latest/meta-data/private-ipv4').read().decode())"
    )
    for each in lab.nodes:
        assert each.python(program).strip() == each.address


def test_kubernetes_knows_the_nodes(lab: Lab, node: LabNode) -> None:
    items = lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
    assert [n["metadata"]["name"] for n in items] == ["node1", "node2"]
    labels = items[0]["metadata"]["labels"]
    assert labels["node.kubernetes.io/instance-type"] == "ecs.g7.xlarge"
    assert labels["topology.kubernetes.io/zone"] == "cn-hangzhou-a"
    assert labels["topology.kubernetes.io/region"] == "cn-hangzhou"
    assert items[0]["spec"]["providerID"] == "cn-hangzhou.i-node1"
    program = "import urllib.request as r; print(r.urlopen('http://100.100.0.20:6443/readyz').status)"
    assert node.python(program).strip() == "200"


def test_attached_eni_appears_as_a_device_and_vanishes(lab: Lab, node: LabNode) -> None:
    eni, mac = sdk(lab, node, "create").split()
    wait_for("the device appears", lambda: mac in devices(node))
    assert devices(node)[mac] == "eth1"
    assert "state DOWN" in node.exec(["ip", "link", "show", "eth1"]).stdout, "hot-plugged: not up by itself"
    node.reboot()
    assert mac in devices(node), "an attached ENI is there after a reboot"
    sdk(lab, node, "detach", eni)
    wait_for("the device vanishes", lambda: mac not in devices(node))


def test_a_delayed_device_comes_when_the_clock_is_advanced(lab: Lab, node: LabNode) -> None:
    lab.cloud.set_delays(device=3600.0, attach=0.0)
    try:
        eni, mac = sdk(lab, node, "create").split()
        lab.cloud.settle()
        assert mac not in devices(node)
        lab.cloud.advance(3601.0)
        wait_for("the device appears", lambda: mac in devices(node))
    finally:
        lab.cloud.set_delays(device=0.05, attach=0.1)
    sdk(lab, node, "detach", eni)
    wait_for("the device vanishes", lambda: mac not in devices(node))


class TestCapture:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "out.pcap"

    def frames(self, file: Path) -> list[bytes]:
        data = file.read_bytes()
        assert struct.unpack_from("<I", data) == (0xA1B23C4D,)
        at, found = 24, []
        while at < len(data):
            length = struct.unpack_from("<I", data, at + 8)[0]
            found.append(data[at + 16 : at + 16 + length])
            at += 16 + length
        return found

    def test_sees_what_passes(self, lab: Lab, node: LabNode, file: Path) -> None:
        with file.open("wb") as out:
            capture = lab.capture("eni-node1", out.fileno())
        assert capture.device == "eth0"
        assert node.python(_ECHO, "203.0.113.10", "77").split() == ["stream", "77"]
        wait_for("both datagrams are written", lambda: sum(b"d" * 77 in f for f in self.frames(file)) == 2)
        assert capture.stop() == len(self.frames(file))

    def test_ends_after_a_count(self, lab: Lab, node: LabNode, file: Path) -> None:
        with file.open("wb") as out:
            capture = lab.capture("outside", out.fileno(), count=3)
        node.python(_ECHO, "203.0.113.10", "77")
        assert capture.wait() == 3
        assert len(self.frames(file)) == 3

    def test_of_an_unknown_eni_names_those_there_are(self, lab: Lab, file: Path) -> None:
        with file.open("wb") as out, pytest.raises(LabError, match=r"no ENI 'eni-x'.*eni-node1"):
            lab.capture("eni-x", out.fileno())


def test_dhcp_tells_a_node_its_primary_address(lab: Lab) -> None:
    """By a client's packet socket, as on a device without address; this one has it, so port 68 is bound."""
    before = lab.drops()
    with namespace.entered(lab.netns_fd("node1")):
        client = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(f.IPV4))
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, bound:
        bound.bind(("0.0.0.0", 68))
        client.bind(("eth0", f.IPV4))
        client.settimeout(30.0)
        mac = client.getsockname()[4].hex(":")
        question = f.udp(68, 67, bootp(1, mac=mac))
        client.send(f.ether_ip(f.BROADCAST, mac, f.ip("0.0.0.0", "255.255.255.255", question)))
        while (answer := client.recv(2048))[34:38] != struct.pack(">HH", 67, 68):
            pass
    wanted = next(i["private_ip"] for i in lab.cloud.state()["instances"] if i["name"] == "node1")
    assert str(ip_address(answer[58:62])) == wanted
    assert lab.drops() == before


def test_counters_count_and_nothing_was_dropped(lab: Lab, node: LabNode) -> None:
    before = lab.counters()["forwarded"]
    node.python(_ECHO, "203.0.113.10", "64")
    assert lab.counters()["forwarded"] > before
    assert lab.port_counters()["eni-node1"]["forwarded"] > 0
    drops = lab.drops()
    assert set(drops) <= {"dst_unassigned"}, drops
