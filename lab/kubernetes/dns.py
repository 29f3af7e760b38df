"""The cluster's DNS: CoreDNS, and the Service that every kubelet of the lab names to its pods."""

from __future__ import annotations

from pathlib import Path

from lab import families
from lab.kubernetes import manifest
from lab.kubernetes.manifest import Object
from lab.spec import IpStack

MANIFEST = Path(__file__).resolve().parent / "manifests" / "coredns.yaml"


def objects(stack: IpStack = IpStack.IPV4) -> list[Object]:
    """Those of the manifest, its Service with an address in each family of the cluster."""
    return [
        _in_families(item, stack) if item["kind"] == "Service" else item for item in manifest.read(MANIFEST)
    ]


def _in_families(service: Object, stack: IpStack) -> Object:
    addresses = families.dns_services(stack)
    spec = {
        **service["spec"],
        "clusterIP": str(addresses[0]),
        "clusterIPs": [str(address) for address in addresses],
        "ipFamilies": [f"IPv{address.version}" for address in addresses],
        "ipFamilyPolicy": "RequireDualStack" if stack is IpStack.DUAL else "SingleStack",
    }
    return {**service, "spec": spec}
