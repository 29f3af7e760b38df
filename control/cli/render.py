"""Answers drawn for a terminal: bullet lists and trees, in upstream's shape. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Tree = dict[str, Any]
"""Name to subtree; a leaf's subtree is empty. Insertion order is drawing order."""


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"* {i}" for i in items)


def tree(root: Tree) -> str:
    lines: list[str] = []
    _draw(root, "", lines)
    return "\n".join(lines)


def _draw(node: Tree, indent: str, lines: list[str]) -> None:
    for position, (name, children) in enumerate(node.items()):
        last = position == len(node) - 1
        lines.append(f"{indent}{'└── ' if last else '├── '}{name}")
        _draw(children, indent + ("    " if last else "│   "), lines)


def pairs_tree(pairs: Iterable[Iterable[str]]) -> Tree:
    """``a/b: value`` becomes a level ``a`` with a leaf ``b: value``."""
    root: Tree = {}
    for key, value in pairs:
        *levels, leaf = key.split("/")
        node = root
        for level in levels:
            node = node.setdefault(level, {})
        node[f"{leaf}: {value}"] = {}
    return root


USUAL_MODE = "policy_route"
"""What a pod's mode is without being mentioned."""


def mapping_tree(answer: Mapping[str, Any]) -> str:
    enis: Tree = {}
    for eni in answer["enis"]:
        rows: Tree = {f"{r['ip']}  {r['pod']}  {r['status']}": {} for r in eni["addresses"]}
        enis[f"ENI: {eni['id']}"] = {
            f"MAC: {eni['mac']}": {},
            f"Status: {eni['status']}": {},
            f"Type: {eni['type']}": {},
            "IPs": rows,
        }
    lines = [tree(enis)] if enis else ["no ENI for pods yet"]
    attachments = answer["attachments"]
    lines.append(f"Resource DB ({len(attachments)} entries)")
    for a in attachments:
        addresses = ",".join(i for i in (a["ipv4"], a["ipv6"]) if i)
        notes = [a["state"]] if a["state"] != "ready" else []
        notes += [a["mode"]] if a.get("mode", USUAL_MODE) != USUAL_MODE else []
        state = f" ({', '.join(notes)})" if notes else ""
        lines.append(f"  {a['pod_namespace']}/{a['pod_name']} -> {a['eni']} {addresses}{state}")
    unrecorded = answer.get("unrecorded", ())
    if unrecorded:
        lines.append(f"Running, and not in the ledger ({len(unrecorded)} links)")
    for link in unrecorded:
        mode = link.get("mode", USUAL_MODE)
        name = link["host_link"] if mode == USUAL_MODE else f"ENI {link['host_link']} ({mode})"
        lines.append(f"  {name} {','.join(link['addresses'])} container {link['container_id']}")
    return "\n".join(lines)


def metadata_tree(answer: Mapping[str, Any]) -> str:
    vswitches: Tree = {}
    for eni in answer["enis"]:
        device = eni["interface"] or "!!!NOT FOUND"
        node: Tree = {"primary: true": {}} if eni["primary"] else {}
        node[f"interface: {device}"] = {}
        node[f"primary_ipv4: {eni['primary_ipv4']}"] = {}
        node["secondary_ipv4s"] = {a: {} for a in eni["secondary_ipv4s"]}
        if eni["ipv6s"]:
            node["ipv6s"] = {a: {} for a in eni["ipv6s"]}
        vswitches.setdefault(f"vswitch: {eni['vswitch']}", {})[f"eni: {eni['mac']}"] = node
    for failure in answer.get("failed", ()):
        vswitches[f"eni: {failure['mac']} not read: {failure['error']}"] = {}
    return tree(vswitches)


def value_tree(value: Mapping[str, Any]) -> str:
    return tree(_levels(value))


def _levels(value: Mapping[str, Any]) -> Tree:
    node: Tree = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            node[key] = _levels(item)
        elif isinstance(item, list):
            node[key] = {str(i): {} for i in item}
        else:
            node[f"{key}: {item}"] = {}
    return node
