"""What a node still has of pods: in containerd, in the kernel, and for terway in its ledger and the cloud."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab.client import Lab
from lab.nodes.node import LabNode

Counts = Mapping[str, int]
ENDED = "containers"
"""Those that have ended are among them until the kubelet removes them, once a minute."""
_LINKS_OF_THE_NODE = ("lo", "eth")


def of_node(node: LabNode) -> Counts:
    """What every pod has some of, whoever made its network."""
    links = [x["ifname"] for x in _table(node, "link", "show") if not _is_the_nodes(x["ifname"])]
    routes = [r for r in _table(node, "route", "show", "table", "all") if r.get("dev") in links]
    rules = [r for r in _table(node, "rule", "show") if r.get("src") != "all"]
    return {
        ENDED: len(_said(node, "ctr", "--namespace=k8s.io", "containers", "list", "-q").split()),
        "running containers": len(_said(node, "ctr", "--namespace=k8s.io", "tasks", "list", "-q").split()),
        "network namespaces": len(_said(node, "ls", "/run/netns").split()),
        "links": len(links),
        "routes": len(routes),
        "rules": len(rules),
    }


def of_agent(node: LabNode) -> Counts:
    """What a pod has in terwayd. Raises OSError if it does not answer."""
    told = state(node)
    status, body = node.agent_get("/bpf/endpoints")
    return {
        "pods in the ledger": len(told["attachments"]),
        "operations in the ledger": len(told["operations"]),
        "pods in eBPF maps": len(json.loads(body)) if status == 200 else 0,
    }


def in_cloud(lab: Lab, node: LabNode) -> int:
    """Addresses on the node's ENIs for pods, in use or not."""
    enis = [e for e in lab.cloud.state()["enis"] if e["instance"] == node.instance_id]
    return sum(len(e["addresses"]) for e in enis if e["type"] == "Secondary")


def state(node: LabNode) -> dict[str, Any]:
    """Raises OSError if terwayd does not answer."""
    status, body = node.agent_get("/state")
    if status != 200:
        raise ConnectionError(f"node {node.name}: terwayd answers GET /state with {status}: {body.strip()}")
    answer: dict[str, Any] = json.loads(body)
    return answer


def undrained(told: Mapping[str, Any], most_idle: int) -> str:
    """What keeps a pool from being as small as it gets without pods, "" if nothing does."""
    pool = told["pool"]
    found = [f"{pool[name]} {name}" for name in ("in_use", "cooling", "releasing") if pool[name]]
    if pool["idle"] > most_idle:
        found.append(f"{pool['idle']} idle, of which {most_idle} are kept")
    if told["operations"] or not told["settled"]:
        found.append("a call of the cloud under way")
    return ", ".join(found)


def _is_the_nodes(link: str) -> bool:
    return link.startswith(_LINKS_OF_THE_NODE)


def _table(node: LabNode, *words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_said(node, "ip", "-json", *words) or "[]")
    return rows


def _said(node: LabNode, *command: str) -> str:
    return node.exec(list(command), timeout=20.0, check=True).stdout
