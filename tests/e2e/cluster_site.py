"""What the tests of a real cluster share: a Deployment of four pods on two nodes, and how to look at it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.image.command import TOOLS
from lab.client import Lab
from lab.kubernetes import binaries, kubectl
from lab.kubernetes.readiness import await_available
from lab.nodes.node import LabNode
from tests.netns.lab.waiting import wait_for

SLOW = 60.0
PODS = 4
_WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {PODS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          nodeTaintsPolicy: Honor
          labelSelector: {{matchLabels: {{app: web}}}}
      containers:
        - name: web
          image: localhost/busybox:1
          imagePullPolicy: Never
          command: [sh, -c]
          args: ["echo serving; mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
          readinessProbe: {{httpGet: {{port: 8080, path: /index.html}}, periodSeconds: 1}}
          livenessProbe: {{tcpSocket: {{port: 8080}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""
_BESIDE = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {{name: main, image: "localhost/busybox:1", imagePullPolicy: Never, command: [sleep, "1000"]}}
"""


def absence(*, image: bool = False) -> str:
    """Why no cluster can be had here, "" if one can; with ``image`` one whose agents are pods."""
    named = os.environ.get(binaries.VARIABLE)
    directory = Path(named or binaries.CACHE / "kubernetes" / binaries.VERSION / "bin")
    lacking = binaries.missing(directory, binaries.CLUSTER + binaries.DNS)
    if lacking:
        return f"{directory} has no {', '.join(lacking)}: ./run cluster builds them"
    tools = [tool for tool in TOOLS if image and shutil.which(tool) is None]
    return f"no {', '.join(tools)}: the product's image cannot be built" if tools else ""


def quiet(_text: str) -> None:
    """Nobody waits for these steps."""


def deploy(lab: Lab) -> None:
    """The Deployment and its Service, all pods serving."""
    kubectl.run(lab, ["apply", "-f", "-"], stdin=_WEB)
    await_available(lab, "deployments", "default", "web", quiet)


def deploy_beside(lab: Lab, name: str) -> None:
    """Four pods that serve nobody; they may still be starting."""
    kubectl.run(lab, ["apply", "-f", "-"], stdin=_BESIDE.format(name=name))


def pods(lab: Lab) -> list[dict[str, Any]]:
    """Of the Deployment, those that are not ending, by name."""
    answer = lab.kubernetes.request("GET", "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb")
    alive = [p for p in answer["items"] if "deletionTimestamp" not in p["metadata"]]
    return sorted(alive, key=lambda pod: str(pod["metadata"]["name"]))


def on(lab: Lab, node: str) -> dict[str, Any]:
    """One of the pods of ``node``."""
    return next(p for p in pods(lab) if p["spec"]["nodeName"] == node)


def inside(lab: Lab, pod: dict[str, Any], *words: str) -> str:
    return kubectl.run(lab, ["exec", pod["metadata"]["name"], "--", *words])


def window(node: LabNode, path: str) -> Any:
    status, body = node.agent_get(path)
    assert status == 200, body
    return json.loads(body)


def fast_packets(lab: Lab) -> int:
    rows = [row for node in lab.nodes for row in window(node, "/bpf/endpoints")]
    return sum(int(row["fast_out_packets"]) for row in rows)


def eventually(what: str, condition: Callable[[], bool]) -> None:
    wait_for(what, condition, timeout=SLOW)
