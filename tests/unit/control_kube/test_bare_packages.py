"""What the agent imports of the Kubernetes client, in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def test_the_agent_imports_nothing_that_only_a_kubeconfig_needs() -> None:
    """Two hundred modules, 6 MiB."""
    text = (
        "import sys, control.agent.node; "
        "print(*({'kubernetes.client', 'oauthlib', 'requests', 'websocket', 'yaml'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["kubernetes.client"]


def test_a_kubeconfig_is_read_all_the_same() -> None:
    text = (
        "from control.kube.connection import Connection, KubernetesConfig; "
        "from control.kube import connection; "
        "from control.model.errors import ConfigError\n"
        "try: connection._configure(KubernetesConfig(node='n', kubeconfig='/nowhere'))\n"
        "except ConfigError as exc: print(exc)"
    )
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert "kubeconfig /nowhere" in told.stdout
