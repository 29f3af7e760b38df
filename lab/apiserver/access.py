"""How clients reach the lab's API server, and as whom: kubeconfigs, and TLS for the lab's own client."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping

from lab.apiserver.files import KubeDir
from lab.families import Address
from lab.spec import KUBERNETES_ADDRESS, KUBERNETES_PORT

PLAIN_URL = f"http://{KUBERNETES_ADDRESS}:{KUBERNETES_PORT}"


def secure_url(address: Address) -> str:
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"https://{host}:{KUBERNETES_PORT}"


def kubeconfig(cluster: Mapping[str, str], user: Mapping[str, str]) -> str:
    """One cluster, one user, as JSON, which every reader of kubeconfigs takes."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": dict(cluster)}],
            "users": [{"name": "lab", "user": dict(user)}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        }
    )


def plain_kubeconfig() -> str:
    """For the small server, which asks nobody who he is."""
    return kubeconfig({"server": PLAIN_URL}, {})


def secure_kubeconfig(directory: KubeDir, user: Mapping[str, str], url: str) -> str:
    """Of the server at ``url``. Self-contained: it names no file."""
    authority = encoded(directory.certificate("ca").read_bytes())
    return kubeconfig({"server": url, "certificate-authority-data": authority}, user)


def admin_user(directory: KubeDir) -> Mapping[str, str]:
    return certified_user(directory.certificate("admin").read_bytes(), directory.key("admin").read_bytes())


def certified_user(certificate: bytes, key: bytes) -> Mapping[str, str]:
    """Who has ``key``, as ``certificate`` says; both PEM."""
    return {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def admin_tls(directory: KubeDir) -> ssl.SSLContext:
    """The lab's own client is an administrator of the cluster. Raises OSError if a file is not there."""
    context = ssl.create_default_context(cafile=str(directory.certificate("ca")))
    context.load_cert_chain(directory.certificate("admin"), directory.key("admin"))
    return context
