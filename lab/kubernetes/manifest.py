"""Objects of manifests: read from a file, changed for the cluster at hand, applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # as in control/kube/service_cidrs.py: it has no types

from lab import families
from lab.client import Lab
from lab.kubernetes import kubectl
from lab.spec import KUBERNETES_PORT, IpStack, ProxyMode

Object = dict[str, Any]


def server(stack: IpStack) -> dict[str, str]:
    """By which a process in a pod finds the API server; else they name the Service ``kubernetes``."""
    return {
        "KUBERNETES_SERVICE_HOST": str(families.server_address(stack)),
        "KUBERNETES_SERVICE_PORT": str(KUBERNETES_PORT),
    }


def read(path: Path) -> list[Object]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


def apply(lab: Lab, items: Sequence[Object]) -> None:
    """Raises LabError with what kubectl complained of."""
    proxied = lab.spec.kubernetes is None or lab.spec.kubernetes.proxy != ProxyMode.NONE
    given = list(items) if proxied else [by_address(item, families.stack_of(lab.spec)) for item in items]
    # The server would be asked for its whole schema first, which takes a new one two seconds to make.
    words = ["apply", "--server-side", "--force-conflicts", "--validate=false", "--filename", "-"]
    kubectl.run(lab, words, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": given}))


def by_address(item: Object, stack: IpStack = IpStack.IPV4) -> Object:
    """A workload whose containers reach the API server itself: no kube-proxy makes its Service work.

    As the chart does for ``apiServer.host`` and ``apiServer.port``. Other objects as they are.
    """
    variables = server(stack)
    template = item.get("spec", {}).get("template", {})
    for container in template.get("spec", {}).get("containers", ()):
        others = [each for each in container.get("env", ()) if each["name"] not in variables]
        container["env"] = [*others, *({"name": name, "value": value} for name, value in variables.items())]
    return item
