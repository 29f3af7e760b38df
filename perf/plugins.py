"""The plugins ``bridge`` and ``ptp`` of containernetworking, run as a runtime runs them.

Two pods each, on a node of their own; addresses by host-local, whose store is in a scratch directory.
Protocol: the CNI specification 1.0.0, sections 2 and 5. Debian's package is containernetworking-plugins.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from datapath import namespace
from perf.paths import Way, new_namespace

DIRECTORY = Path("/usr/lib/cni")
PACKAGE = "containernetworking-plugins"
PLUGINS = ("bridge", "ptp")


def missing(directory: Path | None = None) -> tuple[str, ...]:
    """Executables that ``ways`` needs and that are not in ``directory``, None for Debian's."""
    return tuple(name for name in (*PLUGINS, "host-local") if not ((directory or DIRECTORY) / name).exists())


def ways(stack: ExitStack, scratch: Path) -> Sequence[Way]:
    """One per plugin that is installed; their namespaces end with ``stack``."""
    if missing():
        return ()
    return [_way(stack, scratch / name, name) for name in PLUGINS]


def _way(stack: ExitStack, store: Path, plugin: str) -> Way:
    node = new_namespace(stack)
    pods = [new_namespace(stack) for _ in range(2)]
    results = [_add(node, pod, _config(plugin, store)) for pod in pods]
    return Way(plugin, pods[0], pods[1], results[1]["ips"][0]["address"].partition("/")[0])


def _config(plugin: str, store: Path) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        "dataDir": str(store),
        "ranges": [[{"subnet": "10.9.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    own = {"bridge": "cni0", "isGateway": True} if plugin == "bridge" else {}
    return {"cniVersion": "1.0.0", "name": f"perf-{plugin}", "type": plugin, "mtu": 1500, "ipam": ipam} | own


def _add(node: int, pod: int, config: dict[str, Any]) -> dict[str, Any]:
    """Raises RuntimeError with the plugin's own words if it refuses."""
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": f"perf-{pod}",
        "CNI_NETNS": f"/proc/{os.getpid()}/fd/{pod}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(DIRECTORY),
    }
    with namespace.entered(node):
        done = subprocess.run(
            [DIRECTORY / config["type"]],
            input=json.dumps(config),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"ADD by {config['type']} failed: {done.stdout or done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
