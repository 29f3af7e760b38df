"""A cluster in the lab's VPC: what it is made of, and how it comes up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from deploy.image.command import TOOLS
from lab import families
from lab.apiserver.port import Say
from lab.client import Lab
from lab.kubernetes import binaries, dns, images, manifest, options, preflight, product
from lab.kubernetes.modes import Mode
from lab.kubernetes.readiness import await_available, await_nodes
from lab.kubernetes.runtime import CONTAINERD, PLUGINS
from lab.kubernetes.wording import counted
from lab.messages import LabError
from lab.nodes import agent
from lab.nodes.agent import Wait, follow
from lab.spec import IpStack, KubernetesSpec, LabSpec, NodeSpec, ProxyMode
from lab.statedir import CLUSTER

NAME = CLUSTER
_AGENT_DEADLINE = 240.0
PACKAGES = {
    "containerd": CONTAINERD,
    "runc": "runc",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "busybox-static": "busybox",
    "containernetworking-plugins": str(PLUGINS / "loopback"),
}
"""Debian packages that a node's programs need, and by what each is known."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Agent(StrEnum):
    """How terwayd comes to the nodes."""

    PODS = "pods"
    """As an operator installs it: a DaemonSet, with an image of this source tree."""
    PROCESS = "process"
    """From this source tree, as a process of each node: a change is a restart away."""
    NONE = "none"
    """Not at all: nodes stay NotReady until somebody installs a CNI."""


@dataclass(frozen=True, slots=True)
class Wanted:
    nodes: int = 2
    instance_type: str = NodeSpec("").instance_type
    proxy: ProxyMode = ProxyMode.NFTABLES
    version: str = binaries.VERSION
    agent: Agent = Agent.PODS
    mode: Mode = Mode.POLICY_ROUTE
    host_ports: bool = False
    """The node's CNI configuration is a chain with portmap: 10-terway.conflist, not 10-terway.conf."""
    ip_stack: IpStack = IpStack.IPV4
    max_pods: int = 0
    """Of each kubelet; 0 is as many as its node has addresses for."""
    name: str = NAME

    @property
    def cni(self) -> dict[str, Any]:
        """The node's CNI configuration."""
        conf = agent.cni_conf(eniip_virtual_type=str(self.mode))
        return agent.cni_chain(conf) if self.host_ports else conf


def up(wanted: Wanted, say: Say) -> Lab:
    """A cluster that stays until ``down``, with nodes Ready and DNS that answers. Raises LabError."""
    nodes = tuple(NodeSpec(f"node{i + 1}", wanted.instance_type) for i in range(wanted.nodes))
    return bring_up(LabSpec(nodes=nodes), wanted, say)


def bring_up(spec: LabSpec, wanted: Wanted, say: Say) -> Lab:
    """``up`` in a VPC and with nodes of ``spec``. Until it is complete it ends with this process."""
    preflight.check(wanted.name, say, version=wanted.version)
    check_packages(image=wanted.agent == Agent.PODS and product.needs_build())
    whole = with_kubernetes(spec, wanted, say)
    families.check(whole)
    if wanted.agent == Agent.PODS:
        whole = _with_image(whole, product.archive(say))
    say(f"a VPC with {counted(len(spec.nodes), 'node')}, and Kubernetes {wanted.version}")
    lab = Lab.start(whole, name=wanted.name, progress=say)
    try:
        options.keep(lab.directory, asdict(wanted))
        if wanted.agent != Agent.NONE:
            _furnish(lab, wanted, say)
        lab.keep()
    except BaseException:
        lab.down()
        raise
    return lab


def _furnish(lab: Lab, wanted: Wanted, say: Say) -> None:
    """CNI and DNS. Raises LabError."""
    manifest.apply(lab, dns.objects(wanted.ip_stack))
    if wanted.agent == Agent.PODS:
        say("installing terway")
        product.install(lab, wanted.cni, say)
    else:
        start_agents(lab, wanted.cni, say)
    await_nodes(lab, say)
    await_available(lab, "deployments", "kube-system", "coredns", say)
    say("CoreDNS serves")


def check_packages(*, image: bool = False) -> None:
    """Raises LabError that names the packages to install; with ``image`` also those that build one."""
    wanted = {**PACKAGES, **({tool: tool for tool in TOOLS} if image else {})}
    missing = [p for p, program in wanted.items() if shutil.which(program, path=_PATH) is None]
    if missing:
        raise LabError(
            "a cluster needs programs that this machine lacks; "
            f"install them with `apt-get install --no-install-recommends {' '.join(missing)}`"
        )


def with_kubernetes(spec: LabSpec, wanted: Wanted, say: Say) -> LabSpec:
    """``spec`` with a cluster; its programs and images are made if they are missing. Raises LabError."""
    check_packages()
    directory = binaries.ensure(say, version=wanted.version)
    cache = binaries.CACHE / "kubernetes" / "images"
    made = tuple(map(str, images.base(directory, cache)))
    kubernetes = KubernetesSpec(
        proxy=wanted.proxy,
        images=made,
        image_store=str(cache),
        ip_stack=wanted.ip_stack,
        max_pods=wanted.max_pods,
    )
    return replace(spec, kube_bin=str(directory.resolve()), kubernetes=kubernetes)


def _with_image(spec: LabSpec, image: Path) -> LabSpec:
    """Every node has ``image`` from its first boot on, besides those of the cluster itself."""
    assert spec.kubernetes is not None
    given = (*spec.kubernetes.images, str(image))
    return replace(spec, kubernetes=replace(spec.kubernetes, images=given))


def start_agents(lab: Lab, cni: Mapping[str, Any], say: Say) -> None:
    """terwayd as a process of every node. Raises LabError."""
    say("starting terwayd on each node")
    started = []
    for node in lab.nodes:
        node.install_cni()
        node.write_config(cni_conf=cni)
        started.append((node, node.start_agent(wait=Wait.NOTHING)))
    for node, process in started:
        follow(node, process, Wait.READY, time.monotonic() + _AGENT_DEADLINE)
