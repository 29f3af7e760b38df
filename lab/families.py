"""What a cluster has of IPv4 and of IPv6: Service ranges, and the addresses that go by them.

The primary family comes first wherever there are two, as Kubernetes wants it: IPv4 in dual stack. A Service
that asks for nothing special has the primary family only.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lab.cloud.instance_types import instance_type
from lab.messages import LabError
from lab.spec import (
    KUBERNETES_ADDRESS,
    KUBERNETES_ADDRESS_V6,
    SERVICE_CIDR,
    SERVICE_CIDR_V6,
    IpStack,
    LabSpec,
    VSwitchSpec,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_RANGES: dict[IpStack, tuple[Network, ...]] = {
    IpStack.IPV4: (SERVICE_CIDR,),
    IpStack.DUAL: (SERVICE_CIDR, SERVICE_CIDR_V6),
    IpStack.IPV6: (SERVICE_CIDR_V6,),
}


def stack_of(spec: LabSpec) -> IpStack:
    """IPv4 for a lab that is no cluster."""
    return IpStack.IPV4 if spec.kubernetes is None else spec.kubernetes.ip_stack


def service_ranges(stack: IpStack) -> tuple[Network, ...]:
    return _RANGES[stack]


def kubernetes_service(stack: IpStack) -> Address:
    """ClusterIP of ``default/kubernetes``: the first of the primary range. It has one family always."""
    return service_ranges(stack)[0][1]


def dns_services(stack: IpStack) -> tuple[Address, ...]:
    """ClusterIPs of the cluster's DNS: the tenth of each range, as kubeadm has it."""
    return tuple(cidr[10] for cidr in service_ranges(stack))


def server_address(stack: IpStack) -> Address:
    """Where the API server says that it is; its family has to be the primary one of the Services."""
    return KUBERNETES_ADDRESS_V6 if stack is IpStack.IPV6 else KUBERNETES_ADDRESS


def pod_ranges(spec: LabSpec) -> tuple[Network, ...]:
    """Of the first vSwitch for pods, in the families of the cluster."""
    vswitch = (spec.vswitches[1:] or spec.vswitches)[0]
    versions = {cidr.version for cidr in service_ranges(stack_of(spec))}
    return tuple(cidr for cidr in (vswitch.cidr, vswitch.cidr_v6) if cidr and cidr.version in versions)


def joined(values: tuple[Address, ...] | tuple[Network, ...]) -> str:
    """As options of Kubernetes take several."""
    return ",".join(map(str, values))


def check(spec: LabSpec) -> None:
    """Raises LabError if a cluster wants IPv6 and a vSwitch or an instance type has not enough of it."""
    if stack_of(spec) is IpStack.IPV4:
        return
    wanted = f"--ip-stack {stack_of(spec)} wants IPv6"
    without: list[VSwitchSpec] = [vswitch for vswitch in spec.vswitches if vswitch.cidr_v6 is None]
    if without:
        raise LabError(f"{wanted}, and vSwitch {without[0].vswitch_id} has none: give it a cidr_v6")
    for node in spec.nodes:
        kind = instance_type(node.instance_type)
        if kind.ipv6_per_eni < kind.ipv4_per_eni:
            raise LabError(
                f"{wanted}, and an ENI of {kind.name} has {kind.ipv6_per_eni} IPv6 for {kind.ipv4_per_eni} "
                f"IPv4 addresses, so that pods get none: choose another --instance-type"
            )
