"""The command lines of a control plane's programs. All of them run in the cloud's namespace."""

from __future__ import annotations

from lab.apiserver.files import KubeDir
from lab.families import joined, server_address, service_ranges
from lab.spec import KUBERNETES_ADDRESS, KUBERNETES_PORT, IpStack

_CLIENT_URL = "http://127.0.0.1:2379"
_PEER_URL = "http://127.0.0.1:2380"
FRONT_PROXY = "front-proxy-client"
"""Common name by which aggregated API servers know that a request has passed kube-apiserver."""


def etcd(directory: KubeDir) -> list[str]:
    return [
        f"--data-dir={directory.data}",
        f"--listen-client-urls={_CLIENT_URL}",
        f"--advertise-client-urls={_CLIENT_URL}",
        f"--listen-peer-urls={_PEER_URL}",
        f"--initial-advertise-peer-urls={_PEER_URL}",
        f"--initial-cluster=default={_PEER_URL}",
        # What the lab knows ends with the machine at the latest.
        "--unsafe-no-fsync",
    ]


def api_server(directory: KubeDir, *, cluster: bool, stack: IpStack = IpStack.IPV4) -> list[str]:
    """``cluster``: with kubelets and a controller manager, and so with what only they make sensible.

    With IPv6 it listens in both families: the lab's own client keeps to IPv4.
    """
    return [
        f"--etcd-servers={_CLIENT_URL}",
        f"--bind-address={KUBERNETES_ADDRESS if stack is IpStack.IPV4 else '::'}",
        f"--advertise-address={server_address(stack)}",
        f"--secure-port={KUBERNETES_PORT}",
        f"--client-ca-file={directory.certificate('ca')}",
        f"--tls-cert-file={directory.certificate('server')}",
        f"--tls-private-key-file={directory.key('server')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory.key('accounts')}",
        f"--service-account-signing-key-file={directory.key('accounts')}",
        f"--service-cluster-ip-range={joined(service_ranges(stack))}",
        "--allow-privileged=true",
        f"--audit-policy-file={directory.audit_policy}",
        f"--audit-log-path={directory.audit_log}",
        "--audit-log-maxsize=64",
        "--audit-log-maxbackup=1",
        *(_of_a_cluster(directory) if cluster else _by_itself()),
    ]


def _by_itself() -> list[str]:
    """The default account of a namespace comes from a controller manager, and none runs."""
    return ["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]


def _of_a_cluster(directory: KubeDir) -> list[str]:
    return [
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={directory.certificate('kubelet-client')}",
        f"--kubelet-client-key={directory.key('kubelet-client')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={directory.certificate('ca')}",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={directory.certificate('front-proxy')}",
        f"--proxy-client-key-file={directory.key('front-proxy')}",
        # No kube-proxy runs beside the server: it calls the pods behind a Service by their own addresses.
        "--enable-aggregator-routing=true",
        "--profiling=false",
    ]


def controller_manager(directory: KubeDir, stack: IpStack = IpStack.IPV4) -> list[str]:
    return [
        f"--kubeconfig={directory.kubeconfig('controller-manager')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={directory.key('accounts')}",
        f"--root-ca-file={directory.certificate('ca')}",
        f"--cluster-signing-cert-file={directory.certificate('ca')}",
        f"--cluster-signing-key-file={directory.key('ca')}",
        f"--service-cluster-ip-range={joined(service_ranges(stack))}",
        # It makes directories for plugins that nobody has: not on the machine.
        f"--flex-volume-plugin-dir={directory.root / 'volume-plugins'}",
        # At the default of 20 a namespace waits 8 s for its first account, while 40 controllers log in.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def scheduler(directory: KubeDir) -> list[str]:
    return [
        f"--kubeconfig={directory.kubeconfig('scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]
