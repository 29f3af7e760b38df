"""CNI_ARGS as Kubernetes runtimes fill it: ``NAME=VALUE`` pairs with ``;`` between them, in any order."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cni.errors import CniError, Code

_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?")
"""Names of pods (RFC 1123 subdomain) and namespaces (the same without dots, at most 63)."""
_UID = re.compile(r"[0-9A-Za-z\-]{1,128}")

_IGNORE_UNKNOWN = "IgnoreUnknown"
_TRUTH = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class K8sArgs:
    """What is known of the pod. "" is "the runtime did not say"; podman names no namespace, for one."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    """Of the pod as the kubelet sees it. A static pod's differs from that of its mirror in the API."""
    infra_container_id: str = ""
    ip: str = ""
    """``IP``: parsed as upstream does, and like there without effect."""


_FIELDS = {
    "K8S_POD_NAMESPACE": "namespace",
    "K8S_POD_NAME": "name",
    "K8S_POD_UID": "uid",
    "K8S_POD_INFRA_CONTAINER_ID": "infra_container_id",
    "IP": "ip",
}


def parse(text: str) -> K8sArgs:
    """Raises CniError DECODE for what is no pair, or a name not ours where IgnoreUnknown is not set."""
    pairs = dict(_pair(item) for item in text.split(";") if item)
    ignore = _ignore_unknown(pairs.pop(_IGNORE_UNKNOWN, "0"))
    unknown = sorted(set(pairs) - set(_FIELDS))
    if unknown and not ignore:
        raise _bad(
            f"unknown {', '.join(unknown)}; allowed: {', '.join(_FIELDS)}, others with IgnoreUnknown=1"
        )
    args = K8sArgs(**{_FIELDS[name]: value for name, value in pairs.items() if name in _FIELDS})
    _check("K8S_POD_NAMESPACE", args.namespace, _DNS_NAME, "a Kubernetes namespace's name")
    _check("K8S_POD_NAME", args.name, _DNS_NAME, "a pod's name")
    _check("K8S_POD_UID", args.uid, _UID, "a pod's UID: letters, digits and '-'")
    return args


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise _bad(f"{item!a} is not NAME=VALUE")
    return name, value


def _ignore_unknown(value: str) -> bool:
    if value.lower() not in _TRUTH:
        raise _bad(f"{_IGNORE_UNKNOWN} is {value!a}, allowed: {', '.join(_TRUTH)}")
    return _TRUTH[value.lower()]


def _check(name: str, value: str, pattern: re.Pattern[str], allowed: str) -> None:
    """A pod's name ends up in URLs and ledgers: what is no name is stopped here."""
    if value and not pattern.fullmatch(value):
        raise _bad(f"{name} is {value!a}, allowed: {allowed}")


def _bad(details: str) -> CniError:
    return CniError(Code.DECODE, "failed to parse args", f"CNI_ARGS: {details}")
