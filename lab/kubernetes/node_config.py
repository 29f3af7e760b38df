"""What the programs of a node read: containerd, kubelet and kube-proxy, as values. Pure."""

from __future__ import annotations

from typing import Any

from lab import families
from lab.cloud.instance_types import instance_type
from lab.families import Network
from lab.kubernetes.images import PAUSE
from lab.nodes.host import Host
from lab.spec import IpStack, ProxyMode

Object = dict[str, Any]

DIRECTORY = "/etc/kubernetes"
AUTHORITY = f"{DIRECTORY}/ca.crt"
KUBELET_KUBECONFIG = f"{DIRECTORY}/kubelet.kubeconfig"
PROXY_KUBECONFIG = f"{DIRECTORY}/kube-proxy.kubeconfig"
RESOLV_CONF = f"{DIRECTORY}/resolv.conf"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def containerd() -> str:
    """For containerd 1.6 without systemd.

    ``restrict_oom_score_adj``: a lab may run without CAP_SYS_RESOURCE. Snapshotters and plugins that need
    what a node lacks are not loaded, because each says so at length.
    """
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    unused = ("aufs", "btrfs", "devmapper", "zfs")
    disabled = [f'"io.containerd.snapshotter.v1.{name}"' for name in unused]
    disabled += ['"io.containerd.internal.v1.opt"', '"io.containerd.tracing.processor.v1.otlp"']
    return f"""version = 2
disabled_plugins = [{", ".join(disabled)}]
[{cri}]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
[{cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
[{cri}.cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
  max_conf_num = 1
"""


def kubelet(host: Host, *, unified_cgroups: bool, stack: IpStack = IpStack.IPV4, max_pods: int = 0) -> Object:
    """A KubeletConfiguration. The node's cgroup namespace makes its own group the root that a kubelet sees.

    ``max_pods`` 0 is as many as there are addresses for.
    Since 1.35 a kubelet refuses cgroup v1 unless it is told not to. Nothing is evicted: the machine's disk
    is nobody's to judge by.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": AUTHORITY},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [str(families.dns_services(stack)[0])],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "evictionHard": {
            "imagefs.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "failCgroupV1": unified_cgroups,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "maxPods": max_pods or address_capacity(host.instance_type),
        "providerID": host.provider_id,
        "registerNode": True,
        "resolvConf": RESOLV_CONF,
        "serializeImagePulls": False,
        # The default is below /usr, which is the machine's.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def address_capacity(type_name: str) -> int:
    """Addresses that a node of the type has for pods: those of every ENI but the primary one.

    A kubelet that takes no more pods than that is what docs/install.md asks of an operator: the scheduler
    then looks for another node. Raises ValueError for a type the lab does not know.
    """
    kind = instance_type(type_name)
    return (kind.eni - 1) * kind.ipv4_per_eni


def kubelet_arguments(host: Host, stack: IpStack = IpStack.IPV4) -> list[str]:
    """What has no place in the configuration file."""
    labels = ",".join(f"{key}={value}" for key, value in host.labels.items())
    return [
        f"--config={DIRECTORY}/kubelet.json",
        f"--kubeconfig={KUBELET_KUBECONFIG}",
        f"--hostname-override={host.name}",
        f"--node-ip={','.join(host.addresses(stack))}",
        f"--node-labels={labels}",
    ]


def proxy(host: Host, mode: ProxyMode, pods: tuple[Network, ...]) -> Object:
    """A KubeProxyConfiguration. ``pods``: what calls a Service from elsewhere gets the node's address.

    Its families are those of the Node object; the address it binds to says which is the primary one.
    Conntrack's size is the kernel's own and cannot be set from a network namespace.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0" if pods[0].version == 4 else "::",
        "clientConnection": {"kubeconfig": PROXY_KUBECONFIG},
        "clusterCIDR": families.joined(pods),
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "healthzBindAddress": "0.0.0.0:10256",
        "hostnameOverride": host.name,
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": str(mode),
    }
