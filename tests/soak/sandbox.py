"""What a container runtime does with one sandbox, step by step, so that a step may stop halfway."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from ipaddress import ip_interface
from math import inf
from typing import Any

from lab import cni_call
from lab.cni_call import Attachment, CniError, Network
from lab.nodes.node import LabNode
from lab.nodes.process import Scratch
from lab.sandbox import NETNS_DIR

CONF: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "name": "terway",
    "type": "terway",
    "eniip_virtual_type": "PolicyRoute",
}
"""As a runtime keeps it in memory: it does not read the file anew for each call."""
NETWORK = Network("terway", "0.4.0", (CONF,))


@dataclass(eq=False, slots=True)
class Sandbox:
    """``result`` is the ADD's, None if none has succeeded. Every call raises CniError."""

    node: LabNode
    name: str
    uid: str
    container_id: str = field(default_factory=lambda: secrets.token_hex(32))
    netns: str = field(default_factory=lambda: f"cni-{uuid.uuid4()}")
    result: dict[str, Any] | None = None
    unrecorded: bool = False
    """The ledger was lost while it ran: the kernel alone knows it."""
    broken: str = ""
    """Why it has no network, "" if it must have: what a step did to it that nobody can mend."""
    cut_at: float = inf
    """When its link went, in the machine's seconds since the epoch, if it went before the DEL."""
    ended_at: float = inf
    """When its DEL had succeeded."""

    def __str__(self) -> str:
        return f"{self.node.name}/{self.name} ({self.container_id[:12]})"

    @property
    def addresses(self) -> tuple[str, ...]:
        """IPv4 first."""
        ips = (self.result or {}).get("ips", ())
        return tuple(sorted((str(ip_interface(i["address"]).ip) for i in ips), key=lambda a: ":" in a))

    def make_netns(self) -> None:
        os.close(self.node.add_sandbox(self.netns))

    def remove_netns(self) -> None:
        self.node.remove_sandbox(self.netns)

    def netns_fd(self) -> int:
        """The caller's. Raises LabError if it is gone."""
        return self.node.sandbox_fd(self.netns)

    def _attachment(self, *, named: bool = True) -> Attachment:
        path = f"{NETNS_DIR}/{self.netns}" if named else ""
        return Attachment(self.container_id, path, self.node.name, self.name, self.uid)

    def add(self) -> tuple[str, ...]:
        """The addresses."""
        self.result, _ = cni_call.add(self.node, NETWORK, self._attachment())
        return self.addresses

    def delete(self, *, named: bool = True) -> None:
        """``named`` False: CNI_NETNS is empty, as after a reboot of the runtime."""
        cni_call.delete(self.node, NETWORK, self._attachment(named=named), self.result)
        self.ended_at = min(self.ended_at, time.time())

    def check(self) -> None:
        cni_call.check(self.node, NETWORK, self._attachment(), self.result or {})

    def add_and_hang_up(self, after: float) -> bool:
        """ADD by a runtime that kills the executable after ``after`` seconds. True if it had answered."""
        with Scratch(json.dumps(CONF).encode()) as source, Scratch() as out, Scratch() as err:
            env = self._attachment().environment("ADD")
            files = (source.fd, out.fd, err.fd)
            with self.node.spawn([f"{cni_call.BIN_DIR}/terway"], files, env=env) as process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(after)
                process.send_signal(signal.SIGKILL)
                answered = process.wait(30.0) == 0
            if answered:
                self.result = json.loads(out.read())
            return answered


def collect(node: LabNode, live: list[Sandbox]) -> None:
    """CNI GC with the sandboxes that the runtime has. Raises CniError."""
    listed = [{"containerID": one.container_id, "ifname": "eth0"} for one in live]
    plugin = {**CONF, "cniVersion": "1.1.0", "cni.dev/valid-attachments": listed}
    outcome = cni_call.call(node, plugin, Attachment("gc", "", node.name, "gc", ""), "GC")
    if outcome.code != 0:
        raise CniError(outcome)
