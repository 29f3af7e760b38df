"""From a pod object's JSON to the frozen ``Pod``, with only what the agent reads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from control.model.ids import Address, PodKey
from control.model.pod import Pod

STATIC_UID = "kubernetes.io/config.hash"
"""On the API's copy of a static pod: the uid under which the kubelet, and so the runtime, knows it."""


def parse_pod(value: Mapping[str, Any]) -> Pod:
    """Raises KeyError or TypeError if ``value`` is not a pod object."""
    metadata = value["metadata"]
    spec = value.get("spec") or {}
    status = value.get("status") or {}
    return Pod(
        key=PodKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        node=spec.get("nodeName") or "",
        annotations={
            name: text for name, text in (metadata.get("annotations") or {}).items() if _is_read(name)
        },
        labels=metadata.get("labels") or {},
        host_network=bool(spec.get("hostNetwork")),
        owner_kind=_owner_kind(metadata.get("ownerReferences") or ()),
        addresses=_addresses(status),
        sandbox_exited=status.get("phase", "") in ("Succeeded", "Failed"),
    )


def revision_of(value: Mapping[str, Any]) -> int:
    """``metadata.resourceVersion``; 0 if there is none. Kubernetes promises numbers that grow."""
    text = str((value.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isascii() and text.isdigit() else 0


def has_uid(pod: Pod, uid: str | None) -> bool:
    """Whether ``uid``, as the runtime gives it, means ``pod``. None means any."""
    return uid is None or uid in (pod.uid, pod.annotations.get(STATIC_UID))


def _addresses(status: Mapping[str, Any]) -> tuple[Address, ...]:
    """What is no address is left out: it is a kubelet's word, and no reason to lose the pod."""
    told = [each.get("ip") for each in status.get("podIPs") or ()] or [status.get("podIP")]
    found: list[Address] = []
    for text in told:
        with contextlib.suppress(ValueError):
            found.append(ip_address(text or ""))
    return tuple(found)


def _is_read(name: str) -> bool:
    if name.startswith("k8s.aliyun.com/") or name == STATIC_UID:
        return True
    return name.startswith("kubernetes.io/") and name.endswith("-bandwidth")


def _owner_kind(references: Any) -> str:
    for reference in references:
        if reference.get("controller"):
            return str(reference.get("kind", "")).lower()
    return ""
