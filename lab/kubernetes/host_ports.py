"""Host ports for a cluster that is up without them, in an operator's way: eni-config, then new agents."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from lab.apiserver.port import Say
from lab.client import Lab
from lab.kube_client import KubeError
from lab.kubernetes import product
from lab.messages import LabError
from lab.nodes.agent import CHAIN, CONF, cni_chain


@contextlib.contextmanager
def lent(lab: Lab, say: Say) -> Iterator[None]:
    """For the time of the block; nothing is changed where they are there. Raises LabError."""
    before = _configuration(lab)
    if CHAIN in before:
        yield
        return
    say(f"host ports are wanted: {CONF} in eni-config becomes {CHAIN}, and the agents start anew")
    lending = chained(before)
    try:
        _put(lab, lending, say)
        yield
    finally:
        say(f"back to {CONF}")
        _put(lab, before, say)


def chained(data: dict[str, str]) -> dict[str, str]:
    """eni-config with portmap behind terway. Raises LabError if it has no 10-terway.conf."""
    try:
        own: dict[str, Any] = json.loads(data[CONF])
    except (KeyError, ValueError) as exc:
        raise LabError(f"eni-config has no {CONF} that is JSON: nothing can be chained behind it") from exc
    others = {key: value for key, value in data.items() if key != CONF}
    return {**others, CHAIN: json.dumps(cni_chain(own), indent=2)}


def _configuration(lab: Lab) -> dict[str, str]:
    try:
        data = product.configuration(lab)
        if CHAIN not in data:
            # Agents that are processes of the nodes do not read the ConfigMap.
            path = f"/apis/apps/v1/namespaces/{product.NAMESPACE}/daemonsets/{product.DAEMON_SET}"
            lab.kubernetes.request("GET", path)
    except KubeError as exc:
        raise LabError(
            f"cluster {lab.name!r} has no host ports, and no DaemonSet terway to give it some ({exc}); "
            "bring one up with --host-ports"
        ) from exc
    return data


def _put(lab: Lab, data: dict[str, str], say: Say) -> None:
    lab.kubernetes.put_config_map(product.NAMESPACE, product.CONFIG_MAP, data)
    product.restart(lab, say)
