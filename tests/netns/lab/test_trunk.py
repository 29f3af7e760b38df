"""A member of a trunk ENI in a lab that runs: made through the SDK from a node and used by its frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.client import Lab
from lab.nodes.node import LabNode
from tests.netns.lab.waiting import wait_for

_SDK = """
import json, sys, time
from alibabacloud_ecs20140526.client import Client
from alibabacloud_ecs20140526 import models as m
from alibabacloud_tea_openapi.models import Config
key, secret, what, trunk, member = sys.argv[1:6]
c = Client(Config(access_key_id=key, access_key_secret=secret, endpoint="100.100.0.10", protocol="HTTP",
                  region_id="cn-hangzhou"))
node = dict(region_id="cn-hangzhou", instance_id="i-node1")

def create(kind):
    return c.create_network_interface(m.CreateNetworkInterfaceRequest(
        region_id="cn-hangzhou", v_switch_id="vsw-pods", security_group_id="sg-cluster", instance_type=kind,
        source_dest_check=False, delete_on_release=True)).body

def shown(eni):
    body = c.describe_network_interfaces(m.DescribeNetworkInterfacesRequest(
        region_id="cn-hangzhou", network_interface_id=[eni], max_results=10)).body
    return body.network_interface_sets.network_interface_set[0]

def in_use(eni):
    while shown(eni).status != "InUse":
        time.sleep(0.02)
    return shown(eni)

if what == "attach":
    trunk, member = create("Trunk"), create("Secondary")
    c.attach_network_interface(m.AttachNetworkInterfaceRequest(
        network_interface_id=trunk.network_interface_id, **node))
    in_use(trunk.network_interface_id)
    c.attach_network_interface(m.AttachNetworkInterfaceRequest(
        network_interface_id=member.network_interface_id,
        trunk_network_instance_id=trunk.network_interface_id, **node))
    seen = in_use(member.network_interface_id)
    print(json.dumps({"trunk": trunk.network_interface_id, "mac": trunk.mac_address,
                      "member": member.network_interface_id, "address": member.private_ip_address,
                      "type": seen.type, "vlan": seen.attachment.device_index}))
elif what == "detach-member":
    c.detach_network_interface(m.DetachNetworkInterfaceRequest(
        network_interface_id=member, trunk_network_instance_id=trunk, **node))
else:
    c.detach_network_interface(m.DetachNetworkInterfaceRequest(network_interface_id=trunk, **node))
"""

_ECHO = """
import socket, struct, sys
device, mac, vlan, source, target, wanted = sys.argv[1:7]
raw = lambda text: bytes.fromhex(text.replace(":", ""))
body = b"hello from a member"
udp = struct.pack(">HHHH", 40000, 7, 8 + len(body), 0) + body
ends = socket.inet_aton(source) + socket.inet_aton(target)
head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + ends
total = sum(struct.unpack(">10H", head))
total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack(">H", ~total & 0xffff) + head[12:]
frame = raw("ee:ff:ff:ff:ff:ff") + raw(mac) + struct.pack(">HHH", 0x8100, int(vlan), 0x0800) + head + udp
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
    s.setsockopt(263, 8, 1)
    s.bind((device, 3))
    s.settimeout(float(wanted))
    s.send(frame)
    try:
        while True:
            data, ancillary, _, origin = s.recvmsg(2048, 256)
            if origin[2] != 4 and body in data:
                (_, _, aux), = [a for a in ancillary if a[:2] == (263, 8)]
                status, _, _, _, _, tag, protocol = struct.unpack("=IIIHHHH", aux[:20])
                print("back", tag if status & 0x10 else "untagged", data[:6].hex(":"))
                break
    except TimeoutError:
        print("nothing")
"""


@pytest.fixture
def node(lab: Lab) -> LabNode:
    return lab.node("node1")


def _sdk(lab: Lab, node: LabNode, what: str, trunk: str = "-", member: str = "-") -> str:
    return node.python(_SDK, lab.spec.access_key, lab.spec.access_secret, what, trunk, member).strip()


def _echo(node: LabNode, made: dict[str, Any], *, within: float = 5.0) -> str:
    """What came back from the outside's echo, asked with the member's address and tag."""
    arguments = (made["device"], made["mac"], str(made["vlan"]), made["address"], "203.0.113.10", str(within))
    return node.python(_ECHO, *arguments).strip()


def _devices(node: LabNode) -> dict[str, str]:
    lines = node.exec(
        ["sh", "-c", "cd /sys/class/net; for d in *; do echo $(cat $d/address) $d; done"]
    ).stdout
    return dict(line.split() for line in lines.splitlines())


def test_a_member_is_reached_through_its_trunks_device_until_it_is_detached(lab: Lab, node: LabNode) -> None:
    made = json.loads(_sdk(lab, node, "attach"))
    assert made["type"] == "Member"
    wait_for("the trunk's device", lambda: made["mac"] in _devices(node))
    made["device"] = _devices(node)[made["mac"]]
    assert len(_devices(node)) == 3, "lo, eth0 and the trunk: a member has no device"
    node.exec(["ip", "link", "set", made["device"], "up"])
    answer = f"back {made['vlan']} {made['mac']}"
    wait_for("the fabric knows the tag", lambda: _echo(node, made, within=0.5) == answer, timeout=60)

    _sdk(lab, node, "detach-member", made["trunk"], made["member"])
    before = lab.port_counters()[made["trunk"]]["vlan"]
    wait_for("the tag is forgotten", lambda: _echo(node, made, within=0.2) == "nothing", timeout=60)
    assert lab.port_counters()[made["trunk"]]["vlan"] > before
    _sdk(lab, node, "detach-trunk", made["trunk"])
    wait_for("the device vanishes", lambda: made["mac"] not in _devices(node))
