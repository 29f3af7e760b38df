"""What the programs of a node read: containerd, kubelet and kube-proxy, as values. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from lab.cloud.instance_types import instance_type
from lab.kubernetes.images import PAUSE
from lab.nodes.host import Host
from lab.spec import DNS_SERVICE, ProxyMode

Object = dict[str, Any]

DIRECTORY = "/etc/kubernetes"
AUTHORITY = f"{DIRECTORY}/ca.crt"
KUBELET_KUBECONFIG = f"{DIRECTORY}/kubelet.kubeconfig"
PROXY_KUBECONFIG = f"{DIRECTORY}/kube-proxy.kubeconfig"
RESOLV_CONF = f"{DIRECTORY}/resolv.conf"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_FEWEST_PODS = 110
"""A kubelet's own default."""
_ON_THE_HOST = 10
"""Pods with the node's own network, which a kubelet counts and which need no address."""


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


def kubelet(host: Host, *, unified_cgroups: bool) -> Object:
    """A KubeletConfiguration. The node's cgroup namespace makes its own group the root that a kubelet sees.

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
        "clusterDNS": [str(DNS_SERVICE)],
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
        "maxPods": most_pods(host.instance_type),
        "providerID": host.provider_id,
        "registerNode": True,
        "resolvConf": RESOLV_CONF,
        "serializeImagePulls": False,
        # The default is below /usr, which is the machine's.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def most_pods(type_name: str) -> int:
    """As many as the type has addresses for, on every ENI but the primary one, and those of the host.

    Never less than Kubernetes' default: on a small type it is terwayd that refuses a pod and says why, where
    a scheduler would say no more than "Too many pods". Raises ValueError for a type the lab does not know.
    """
    kind = instance_type(type_name)
    return max(_FEWEST_PODS, (kind.eni - 1) * kind.ipv4_per_eni + _ON_THE_HOST)


def kubelet_arguments(host: Host) -> list[str]:
    """What has no place in the configuration file."""
    labels = ",".join(f"{key}={value}" for key, value in host.labels.items())
    return [
        f"--config={DIRECTORY}/kubelet.json",
        f"--kubeconfig={KUBELET_KUBECONFIG}",
        f"--hostname-override={host.name}",
        f"--node-ip={host.address}",
        f"--node-labels={labels}",
    ]


def proxy(host: Host, mode: ProxyMode, pods: IPv4Network) -> Object:
    """A KubeProxyConfiguration. ``pods``: what calls a Service from elsewhere gets the node's address.

    Conntrack's size is the kernel's own and cannot be set from a network namespace.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "clientConnection": {"kubeconfig": PROXY_KUBECONFIG},
        "clusterCIDR": str(pods),
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "healthzBindAddress": "0.0.0.0:10256",
        "hostnameOverride": host.name,
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": str(mode),
    }
