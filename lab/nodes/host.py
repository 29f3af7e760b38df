"""What a node knows of the instance that it is, and the labels that come of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lab.spec import IpStack

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's words, which Kubernetes uses, for the kernel's."""


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    provider_id: str
    instance_type: str
    region: str
    zone: str
    address: str
    """IPv4, of the primary ENI."""
    address_v6: str = ""
    """Of the primary ENI too; "" if it has none."""

    def addresses(self, stack: IpStack) -> tuple[str, ...]:
        """By which the cluster knows the node, of the primary family first."""
        of = {
            IpStack.IPV4: (self.address,),
            IpStack.DUAL: (self.address, self.address_v6),
            IpStack.IPV6: (self.address_v6,),
        }
        return of[stack]

    @property
    def labels(self) -> dict[str, str]:
        """Those that the controller of a cloud gives, and a kubelet may give itself."""
        return {
            "node.kubernetes.io/instance-type": self.instance_type,
            "topology.kubernetes.io/region": self.region,
            "topology.kubernetes.io/zone": self.zone,
        }

    @property
    def all_labels(self) -> dict[str, str]:
        """``labels``, what a kubelet sets by itself, and the older names of both.

        Source: Kubernetes' page "Well-Known Labels, Annotations and Taints"; kubelet and the controller of a
        cloud still write the deprecated names beside the new ones.
        """
        architecture = _ARCHITECTURES.get(os.uname().machine, os.uname().machine)
        return {
            **self.labels,
            "kubernetes.io/arch": architecture,
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": architecture,
            "beta.kubernetes.io/instance-type": self.instance_type,
            "beta.kubernetes.io/os": "linux",
            "failure-domain.beta.kubernetes.io/region": self.region,
            "failure-domain.beta.kubernetes.io/zone": self.zone,
        }
