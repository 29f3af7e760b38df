"""What ``./run cluster status`` and ``up`` show: options, nodes, pods, and what had to be started again."""

from __future__ import annotations

from typing import Any

from lab.client import Lab
from lab.kubernetes import kubectl, options
from lab.kubernetes.readiness import is_ready, not_ready, restarted

Value = dict[str, Any]


def text(lab: Lab) -> str:
    """For a person, as kubectl shows it."""
    tables = [
        kubectl.run(lab, ["get", *what, "--output=wide"])
        for what in (["nodes"], ["pods", "--all-namespaces"])
    ]
    ended = [line for node in lab.nodes for line in restarted(node)]
    return "\n".join([f"up with {options.describe(options.of(lab.directory))}\n", *tables, *ended]).rstrip()


def value(lab: Lab) -> Value:
    """The same for a program."""
    nodes = lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
    pods = lab.kubernetes.request("GET", "/api/v1/pods")["items"]
    return {
        "name": lab.name,
        "options": options.of(lab.directory),
        "nodes": [_node(item) for item in nodes],
        "pods": [_pod(item) for item in pods],
        "restarted": [line for node in lab.nodes for line in restarted(node)],
    }


def _node(item: Value) -> Value:
    told = item.get("status", {})
    why = not_ready(item)
    return {
        "name": item["metadata"]["name"],
        "ready": not why,
        "because": why,
        "addresses": [a["address"] for a in told.get("addresses", ()) if a["type"] == "InternalIP"],
        "max_pods": int(told.get("capacity", {}).get("pods", 0)),
        "kubelet": told.get("nodeInfo", {}).get("kubeletVersion", ""),
    }


def _pod(item: Value) -> Value:
    return {
        "namespace": item["metadata"]["namespace"],
        "name": item["metadata"]["name"],
        "node": item["spec"].get("nodeName"),
        "phase": item["status"].get("phase"),
        "ready": is_ready(item),
        "addresses": [each["ip"] for each in item["status"].get("podIPs", ())],
    }
