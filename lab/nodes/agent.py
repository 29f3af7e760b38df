"""``terwayd`` in a node of the lab: configured, started and stopped as on an ECS instance."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from lab import families, messages
from lab.messages import LabError
from lab.nodes.process import NodeProcess, ended, pid_of, until
from lab.nodes.remote import RemoteNode
from lab.spec import OPENAPI_ADDRESS, IpStack, LabSpec

LABEL = "terwayd"
LOG = "/var/log/terwayd.log"
KUBECONFIG = "/etc/kubernetes/terway.kubeconfig"
CONF = "10-terway.conf"
CHAIN = "10-terway.conflist"
SOCKET = "run/eni/eni.socket"
WINDOW = "run/eni/eni_debug.socket"
DEADLINE = 120.0
"""Seconds for a start or an end of the agent: it bounds what is broken, not what is slow."""
_POLL = 0.01
_ANSWER_TIMEOUT = 30.0
"""Seconds for an answer of its window, which says itself after five that its loop is stuck."""
_TAIL = 5


_IP_STACK = {IpStack.IPV4: "ipv4", IpStack.DUAL: "dual", IpStack.IPV6: "dual"}
"""``ip_stack`` of eni_conf for a cluster. The agent knows no pods with IPv6 alone: in a cluster of IPv6 they
have an IPv4 address beside, which no Service and no name of the cluster leads to."""


class Wait(StrEnum):
    """How far ``start_agent`` follows the start."""

    READY = "ready"
    """/readyz says ok: pods can be served."""
    SOCKET = "socket"
    """The CNI socket accepts a connection."""
    NOTHING = "nothing"


def eni_conf(spec: LabSpec, **changes: Any) -> dict[str, Any]:
    """An eni_conf that fits the lab: its access key, its pod vSwitches, its first group; with ``changes``.

    ``ip_stack`` is left out, and so ipv4, where no cluster has IPv6.
    """
    stack = families.stack_of(spec)
    vswitches: dict[str, list[str]] = {}
    for vswitch in spec.vswitches[1:] or spec.vswitches:
        vswitches.setdefault(vswitch.zone, []).append(vswitch.vswitch_id)
    return {
        "version": "1",
        "access_key": spec.access_key,
        "access_secret": spec.access_secret,
        "security_group": spec.groups[0].group_id,
        "service_cidr": families.joined(families.service_ranges(stack)),
        "vswitches": vswitches,
        "max_pool_size": 5,
        "min_pool_size": 0,
        **({} if stack is IpStack.IPV4 else {"ip_stack": _IP_STACK[stack]}),
        **changes,
    }


def cni_conf(**changes: Any) -> dict[str, Any]:
    """A 10-terway.conf for policy routing, with ``changes``."""
    return {
        "cniVersion": "0.4.0",
        "name": "terway",
        "type": "terway",
        "eniip_virtual_type": "PolicyRoute",
        **changes,
    }


def cni_chain(conf: Mapping[str, Any]) -> dict[str, Any]:
    """The 10-terway.conflist of a 10-terway.conf: behind it a plugin carries host ports."""
    head = {key: conf[key] for key in ("cniVersion", "name") if key in conf}
    terway = {key: value for key, value in conf.items() if key not in head}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {**head, "plugins": [terway, portmap]}


def config_map(eni: Mapping[str, Any], cni: Mapping[str, Any]) -> dict[str, str]:
    """The data of the ConfigMap eni-config. A ``cni`` with ``plugins`` is a chain: 10-terway.conflist."""
    return {
        "eni_conf": json.dumps(eni, indent=2),
        CHAIN if "plugins" in cni else CONF: json.dumps(cni, indent=2),
        "disable_network_policy": "true",
    }


def environment(node: str) -> dict[str, str]:
    """Where the agent finds the lab's services."""
    return {
        "NODE_NAME": node,
        "ECS_ENDPOINT": str(OPENAPI_ADDRESS),
        "VPC_ENDPOINT": str(OPENAPI_ADDRESS),
        "ALICLOUD_CLIENT_SCHEME": "HTTP",
        "KUBECONFIG": KUBECONFIG,
    }


def start(
    node: RemoteNode,
    args: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    wait: Wait = Wait.READY,
    timeout: float = DEADLINE,
) -> NodeProcess:
    """Run terwayd detached, its output appended to LOG; its kubeconfig is there already.

    Raises LabError with the log's end if it fails.
    """
    if running(node) is not None:
        raise LabError(f"node {node.name}: terwayd runs already")
    log = os.open(node.directory.outside(LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    begin = os.fstat(log).st_size
    try:
        process = node.spawn(
            [sys.executable, "-m", "control.agent.main", *args],
            (null, log, log),
            env={**environment(node.name), **(env or {})},
            label=LABEL,
            detached=True,
        )
    finally:
        messages.close([log, null])
    if wait != Wait.NOTHING:
        follow(node, process, wait, time.monotonic() + timeout, begin)
    return process


def follow(node: RemoteNode, process: NodeProcess, wait: Wait, deadline: float, begin: int = 0) -> None:
    """Follow a start. What the log says before the offset ``begin`` is of an earlier run. Raises LabError."""
    root = Path(f"/proc/{node.pid}/root")
    said = ""
    while True:
        if process.poll() is not None:
            raise LabError(f"node {node.name}: terwayd ended with {process.returncode}: {_tail(node, begin)}")
        if _accepts(root / SOCKET):
            said = readiness(root / WINDOW) if wait == Wait.READY else ""
            if not said:
                return
        if time.monotonic() > deadline:
            raise LabError(f"node {node.name}: terwayd is not {wait} ({said}): {_tail(node, begin)}")
        ended(process.fileno(), min(_POLL, until(deadline)))


def _tail(node: RemoteNode, begin: int) -> str:
    lines = node.read(LOG)[begin:].strip().splitlines()[-_TAIL:]
    return " | ".join(lines) or "its log is empty"


def _accepts(path: Path) -> bool:
    try:
        messages.connect(path, timeout=1.0).close()
    except OSError:
        return False
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = messages.connect(self._path, timeout=_ANSWER_TIMEOUT)


def get(path: Path, target: str) -> tuple[int, str]:
    """One GET over the UNIX socket at ``path``: status and body. Raises OSError."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except http.client.HTTPException as exc:
        raise ConnectionError(f"{target}: {exc}") from exc
    finally:
        connection.close()


def readiness(window: Path) -> str:
    """ "" if the agent can serve pods, else why not."""
    try:
        status, body = get(window, "/readyz")
    except OSError as exc:
        return str(exc)
    return "" if status == 200 else body.strip()


def running(node: RemoteNode) -> int | None:
    """A pidfd of the node's terwayd, None if none runs. The caller owns it."""
    try:
        _, (pidfd,) = node.ask({"verb": "open_process", "label": LABEL})
    except LabError:
        return None
    return pidfd


def pid(node: RemoteNode) -> int | None:
    """The agent's pid as the caller's pid namespace numbers it."""
    pidfd = running(node)
    if pidfd is None:
        return None
    try:
        return pid_of(pidfd)
    finally:
        os.close(pidfd)


def stop(node: RemoteNode, number: int = signal.SIGTERM, *, timeout: float = DEADLINE) -> bool:
    """Signal the agent and wait for its end. False if none runs. Raises LabError if it does not end."""
    pidfd = running(node)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
        if not ended(pidfd, timeout):
            raise LabError(f"node {node.name}: terwayd did not end in {timeout:.0f} s after signal {number}")
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)
    return True
