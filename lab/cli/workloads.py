"""What ``./run lab status`` shows of a real cluster: its pods, and the ENI that each has its address from.

Pods and addresses are the API server's, ENIs the cloud's: an address that is on no ENI of its node shows.
"""

from __future__ import annotations

from typing import Any

from lab.cli.table import table
from lab.client import Lab
from lab.kube_client import KubeError
from lab.kubernetes.commands import typed

Row = dict[str, Any]
_HOST = "the node's"


def parts(lab: Lab, status: dict[str, Any]) -> list[str]:
    """Texts for below the tables of nodes and ENIs; ``status`` gets its ``pods`` of Kubernetes and agents."""
    from lab.kubernetes.readiness import restarted  # imports what makes certificates: 50 ms

    told = status["kubernetes"]
    texts = [f"{told['server']} at {told['url']}\n  {typed(lab.name, 'kubectl get pods -A -o wide')}"]
    try:
        items = lab.kubernetes.request("GET", "/api/v1/pods")["items"]
    except KubeError as exc:
        return [*texts, str(exc)]
    told["pods"] = [_row(item, status) for item in items]
    for node in status["nodes"]:
        node["agent_pod"] = next((r["name"] for r in told["pods"] if _is_agent(r, node["name"])), None)
    ended = [line for node in lab.nodes for line in restarted(node)]
    return [_table(told["pods"]), *texts, *(["\n".join(ended)] if ended else [])]


def _row(item: dict[str, Any], status: dict[str, Any]) -> Row:
    addresses = [each["ip"] for each in item["status"].get("podIPs", ())]
    node = item["spec"].get("nodeName")
    on_host = bool(item["spec"].get("hostNetwork"))
    return {
        "namespace": item["metadata"]["namespace"],
        "name": item["metadata"]["name"],
        "labels": item["metadata"].get("labels", {}),
        "node": node,
        "phase": item["status"].get("phase"),
        "addresses": addresses,
        "host_network": on_host,
        "enis": [] if on_host else [_eni(address, node, status) for address in addresses],
    }


def _eni(address: str, node: str | None, status: dict[str, Any]) -> str | None:
    """The id of the ENI of ``node`` that has ``address`` by the cloud's word, None if none has."""
    enis = (eni for n in status["nodes"] if n["name"] == node for eni in n["enis"])
    return next((str(eni["id"]) for eni in enis if address in eni["addresses"]), None)


def _is_agent(row: Row, node: str) -> bool:
    return (row["labels"].get("app"), row["host_network"], row["node"]) == ("terway", True, node)


def _table(rows: list[Row]) -> str:
    cells = (
        (
            f"{r['namespace']}/{r['name']}",
            r["node"],
            r["phase"],
            r["addresses"],
            _HOST if r["host_network"] else [eni or "none" for eni in r["enis"]],
        )
        for r in rows
    )
    return table(("POD", "NODE", "PHASE", "ADDRESSES", "ENI"), cells)
