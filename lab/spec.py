"""What a lab looks like: the values a user may choose before ``./run lab up``.

The defaults are one zone with a vSwitch for nodes and one for pods, dual stack, and no artificial delay
but those that a cloud always has. Everything here is plain data; ``lab.cloud`` gives it behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

GATEWAY_MAC = "ee:ff:ff:ff:ff:ff"
METADATA_ADDRESS = IPv4Address("100.100.100.200")
OPENAPI_ADDRESS = IPv4Address("100.100.0.10")
KUBERNETES_ADDRESS = IPv4Address("100.100.0.20")
KUBERNETES_ADDRESS_V6 = IPv6Address("2001:db8:ffff::20")
"""Where a cluster with IPv6 has its API server too. Metadata service and OpenAPI are reached by IPv4 only."""
KUBERNETES_PORT = 6443
VLANS = range(1, 4095)
"""Those that IEEE 802.1Q leaves to its users."""
SERVICE_CIDR = IPv4Network("172.21.0.0/20")
"""Of a real API server, and what the lab's eni_conf says."""
SERVICE_CIDR_V6 = IPv6Network("fd00:21::/112")
"""Beside it or in its place in a cluster with IPv6; see ``lab.families``."""
OUTSIDE_ADDRESS = IPv4Address("203.0.113.10")
OUTSIDE_ADDRESS_V6 = IPv6Address("2001:db8:ffff::10")

SESSIONS = 250_000
"""How many a port has at once at most, unless it says how many."""


def gateway_of(cidr: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    """The VPC's gateway inside a vSwitch: the third address from the end, .253 in a /24."""
    return cidr[-3]


@dataclass(frozen=True, slots=True)
class VSwitchSpec:
    vswitch_id: str
    zone: str
    cidr: IPv4Network
    cidr_v6: IPv6Network | None


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One security group rule, in the words of AuthorizeSecurityGroup.

    ``peer`` is a CIDR, or the id of a group. ``ports`` is (first, last); (-1, -1) is every port.
    ``priority`` 1 to 100, 1 first; at the same priority ``Drop`` wins.
    """

    direction: str
    """``ingress`` or ``egress``."""
    policy: str = "Accept"
    """``Accept`` or ``Drop``."""
    protocol: str = "ALL"
    """``ALL``, ``TCP``, ``UDP``, ``ICMP``, ``ICMPv6`` or ``GRE``."""
    ports: tuple[int, int] = (-1, -1)
    peer: str = "0.0.0.0/0"
    priority: int = 1
    description: str = field(default="", compare=False)
    rule_id: str = field(default="", compare=False)
    """The cloud's; "" lets it take one."""
    created: float = field(default=0.0, compare=False)
    """When the cloud took it, by its clock. None of these three makes another rule."""


@dataclass(frozen=True, slots=True)
class SecurityGroupSpec:
    """``inner_accept``: members of a normal group reach each other, whatever the rules say.

    ``kind`` is ``normal`` or ``enterprise``, the API's words; an enterprise group has no inner access and
    lets nothing out that no rule lets out.
    """

    group_id: str
    rules: tuple[RuleSpec, ...] = ()
    inner_accept: bool = True
    kind: str = "normal"
    name: str = ""
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def is_enterprise(self) -> bool:
        return self.kind == "enterprise"


@dataclass(frozen=True, slots=True)
class Delays:
    """How far each view lags behind the write, in seconds of the lab's clock.

    Each is a property of that view: a call returns at once and the view shows the change later.
    """

    describe: float = 0.0
    """Describe* answers show the state of this long ago."""
    metadata: float = 0.05
    """So does the metadata service."""
    device: float = 0.05
    """From AttachNetworkInterface to the device in the node, and from Detach to its end."""
    fabric: float = 0.0
    """From an (un)assigned address to the fabric's delivering (dropping) for it."""
    route: float = 0.0
    """A route entry is Pending for so long after CreateRouteEntry, and as long until it is gone."""
    create: float = 0.0
    """ENI status Creating to Available."""
    attach: float = 0.05
    """ENI status Attaching to InUse; Detaching to Available takes as long."""
    delete: float = 0.0
    """Deleting to gone."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no page says of ECS, or what pages say differently: each a switch, so that both can be tried."""

    detach_available_succeeds: bool = True
    """DetachNetworkInterface of an ENI that is attached to nothing. Its page asks for InUse or Detaching; but
    clients that detach before they delete, as upstream's roll-back, would never end if it were refused."""
    new_enis_check_addresses: bool = True
    """SourceDestCheck of an ENI whose creation does not say. The reference of CreateNetworkInterface says
    false; the announcement of April 2025 says on, for accounts without routes or traffic that need it off."""
    route_entries_pass_check: bool = True
    """An ENI that checks addresses sends from and receives for what a route entry leads to it. The page on
    the check says own addresses only; its announcement leaves it off for accounts with routes, whose VPC mode
    works. False: such an entry drops, until SourceDestCheck of its next hop is off."""
    members_use_trunk_mac: bool = True
    """Tagged frames have the trunk ENI's MAC at the instance's end, as each data path of upstream's sends and
    accepts them: none sets another. False: the member's own."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One ECS instance. ``groups`` are the security groups of its primary ENI."""

    name: str
    instance_type: str = "ecs.g7.xlarge"
    zone: str = "cn-hangzhou-a"
    vswitch_id: str = "vsw-nodes"
    groups: tuple[str, ...] = ("sg-cluster",)
    ram_role: str = "KubernetesWorkerRole"


def _default_vswitches() -> tuple[VSwitchSpec, ...]:
    return (
        VSwitchSpec(
            "vsw-nodes", "cn-hangzhou-a", IPv4Network("10.0.0.0/20"), IPv6Network("2001:db8:10:0::/64")
        ),
        VSwitchSpec(
            "vsw-pods", "cn-hangzhou-a", IPv4Network("10.0.16.0/20"), IPv6Network("2001:db8:10:1::/64")
        ),
    )


def _default_groups() -> tuple[SecurityGroupSpec, ...]:
    return (
        SecurityGroupSpec(
            "sg-cluster",
            (
                RuleSpec("egress", peer="0.0.0.0/0"),
                RuleSpec("egress", peer="::/0"),
                RuleSpec("ingress", protocol="ICMP", peer="0.0.0.0/0"),
                RuleSpec("ingress", protocol="ICMPv6", peer="::/0"),
            ),
        ),
    )


class ProxyMode(StrEnum):
    """What makes Services of a cluster work: kube-proxy in one of its modes, or nothing."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"
    NONE = "none"


class IpStack(StrEnum):
    """The address families of a cluster's nodes, Services and pods; the primary one is IPv4 in ``dual``."""

    IPV4 = "ipv4"
    DUAL = "dual"
    IPV6 = "ipv6"


@dataclass(frozen=True, slots=True)
class KubernetesSpec:
    """A whole cluster: controllers and scheduler too, and nodes of containerd and kubelet."""

    proxy: ProxyMode = ProxyMode.NFTABLES
    images: tuple[str, ...] = ()
    """Absolute paths of docker-archives that a node has before its kubelet starts, pause among them."""
    image_store: str = ""
    """Absolute path of a directory that keeps them unpacked for later labs; "" for none."""
    ip_stack: IpStack = IpStack.IPV4
    max_pods: int = 0
    """Of each kubelet; 0 is as many as its node has addresses for."""


@dataclass(frozen=True, slots=True)
class LabSpec:
    region: str = "cn-hangzhou"
    vpc_id: str = "vpc-lab"
    cidr: IPv4Network = IPv4Network("10.0.0.0/16")
    cidr_v6: IPv6Network = IPv6Network("2001:db8:10::/56")
    vswitches: tuple[VSwitchSpec, ...] = field(default_factory=_default_vswitches)
    groups: tuple[SecurityGroupSpec, ...] = field(default_factory=_default_groups)
    nodes: tuple[NodeSpec, ...] = (NodeSpec("node1"), NodeSpec("node2"))
    delays: Delays = Delays()
    access_key: str = "LTAI5tLabLabLabLabLab"
    access_secret: str = "not-a-secret-it-opens-only-this-lab"
    mtu: int = 1500
    assumptions: Assumptions = Assumptions()
    sessions: int = 0
    """Connections that an instance may have at once; one more is dropped, those that are there go on. 0 is as
    many as its type has (``lab.cloud.instance_types``)."""
    wire: bool = False
    """Offloads off on ENI and pod links: frames are as a wire would carry them."""
    kube_bin: str = ""
    """Absolute path of a directory with ``etcd`` and ``kube-apiserver``, which are the Kubernetes API then.

    "" is the small server of ``lab.kube``, which is there at once.
    """
    kubernetes: KubernetesSpec | None = None
    """Needs ``kube_bin``, with all programs of a cluster. Nodes register themselves then."""
