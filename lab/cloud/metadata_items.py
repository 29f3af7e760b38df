"""Items of the metadata service that tell of an instance what no ENI does.

Source: Alibaba Cloud's page "Instance metadata items". Values whose form the page does not show are like the
answer of an instance that cloud-init's tests keep (datasource AliYun). Inferred: a list is one item a line.
Name servers, time servers and the mirror are the cloud's names; nothing in the lab answers there.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from lab.cloud.instance_types import InstanceType
from lab.cloud.model import Instance

Tree = dict[str, "str | Tree"]

IMAGE_ID = "debian_12_x64_20G_lab.vhd"
_SERIALS = uuid.UUID("6d1b1f6e-0d1c-4f0e-9c58-9d0a4d1f2c11")

ABSENT = {
    "disks": "a node's disk is a directory of the machine",
    "eipv4": "no elastic IP address is bound: the lab has none",
    "public-ipv4": "no public address: the lab has none",
    "public-keys": "no key pair is bound",
    "image/market-place/product-code": "the image is none of the Marketplace",
    "image/market-place/charge-type": "the image is none of the Marketplace",
    "instance/spot/termination-time": "the instance is no preemptible one",
    "instance-identity/pkcs7": "the cloud's signing key would be needed",
    "kms-server": "of Windows alone",
    "wsus-server/wu-server": "of Windows alone",
    "wsus-server/wu-status-server": "of Windows alone",
}
"""Items that ECS documents and that are not found in the lab on purpose, and why. They answer 404, as ECS
answers for an instance that has no such thing."""


def instance_items(instance: Instance, kind: InstanceType) -> Tree:
    """For the top of the tree, ``instance/`` included."""
    return {
        "dns-conf": {"nameservers": "100.100.2.136\n100.100.2.138"},
        "hibernation": {"configured": "false"},
        "image-id": IMAGE_ID,
        "instance": _of_the_type(instance, kind),
        "ntp-conf": {"ntp-servers": "ntp1.aliyun.com\nntp1.cloud.aliyuncs.com"},
        "serial-number": str(uuid.uuid5(_SERIALS, instance.instance_id)),
        "source-address": "http://mirrors.cloud.aliyuncs.com",
    }


def _of_the_type(instance: Instance, kind: InstanceType) -> Tree:
    """Bandwidth in kbit/s. ``max-netbw-ingress`` is the name that is served; the page misprints it."""
    bandwidth = str(kind.bandwidth_kbits)
    return {
        "instance-name": instance.name,
        "instance-type": kind.name,
        "instance-type-spec": {
            "max-connections": str(kind.connections),
            "max-netpps": str(kind.packets_per_second),
        },
        "last-host-landing-time": f"{datetime.fromtimestamp(instance.created, UTC):%Y-%m-%d %H:%M:%S}",
        "max-netbw-egress": bandwidth,
        "max-netbw-ingress": bandwidth,
        "virtualization-solution": "ECS Virt",
        "virtualization-solution-version": "2.0",
    }
