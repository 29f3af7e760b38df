"""One node under the soak: its pods by slot, what was done to it, and the doors to its agent."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from control.cli.client import CliError, Daemon
from lab.client import Lab
from lab.kube_client import KubeError
from lab.nodes import agent
from lab.nodes.agent import Wait
from lab.nodes.node import LabNode
from tests.soak.sandbox import Sandbox

CLOCK = {"TERWAY_TEST_CLOCK": "1"}
DISK_OF_THE_LEDGER = "/var/lib/cni"
"""Around the directory, which steps remove: rmdir takes a mount of another namespace along."""
LEDGER = f"{DISK_OF_THE_LEDGER}/terway"


@dataclass(slots=True)
class Refusal:
    """An ADD, DEL or CHECK that failed, with the error's words."""

    command: str
    sandbox: Sandbox
    words: str


@dataclass(slots=True)
class Foreign:
    """An object that a hand has put beside the agent's, in lines for sh(1) in the node.

    ``look`` prints something while it is there. ``told``: what the agent's log says of it, "" if the agent
    takes it off. ``pod``: the address that it is about; if no pod has that it harms nobody.
    """

    put: str
    look: str
    remove: str
    told: str = ""
    pod: str = ""
    what: str = ""
    since: int = 0
    """How long the agent's log was when it was put there, or taken back."""
    taken_back: bool = False


@dataclass(slots=True)
class Site:
    """``causes`` are those of ``causes.py`` that steps have given since the last quiet moment."""

    lab: Lab
    node: LabNode
    instance_id: str
    mac: str
    """Of the primary ENI."""
    dual: bool
    pods: dict[int, Sandbox] = field(default_factory=dict)
    """By slot: the sandbox that runs there, its ADD having succeeded."""
    uids: dict[int, str] = field(default_factory=dict)
    """By slot: the uid of its pod object."""
    owed: list[Sandbox] = field(default_factory=list)
    """Sandboxes whose DEL is still to come, or has failed: a runtime repeats it until it succeeds."""
    unwanted: set[str] = field(default_factory=set)
    """Names of pod objects that could not be deleted yet."""
    refusals: list[Refusal] = field(default_factory=list)
    causes: set[str] = field(default_factory=set)
    detached: list[str] = field(default_factory=list)
    """ENIs that a hand has taken from the node."""
    suspect: set[str] = field(default_factory=set)
    """Addresses that a hand has taken: who has one now, or gets it before it is found out, has no network."""
    faults: list[tuple[str, int]] = field(default_factory=list)
    """Actions of the cloud that steps have made fail since then, and how often."""
    jumped: int = 0
    """Seconds that steps have moved its clock or the cloud's since then."""
    linkless: list[Sandbox] = field(default_factory=list)
    """Whose links went before their DELs, since the last quiet moment: a repair in between clears up."""
    foreign: list[Foreign] = field(default_factory=list)
    """What hands have put there, and neither the agent nor the hand has taken away."""
    own: tuple[str, ...] = ()
    """Addresses of its primary ENI with their prefix lengths, as they were at the start."""
    virtual: bool = False
    """A virtual address is on the primary ENI."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return self.node.name

    def running(self) -> list[Sandbox]:
        return list(self.pods.values())

    # --- the agent ---

    def start(self, *, fault: str = "", wait: Wait = Wait.READY) -> None:
        env = {**CLOCK, "TERWAY_FAULT": fault} if fault else CLOCK
        self.node.start_agent(env=env, wait=wait)

    def ensure_agent(self) -> bool:
        """As a DaemonSet does: one that has ended is started again. True if it was."""
        if self.node.agent_pid is not None:
            return False
        self.start(wait=Wait.SOCKET)
        return True

    def advance(self, seconds: float) -> None:
        """The agent's clock. Nothing happens if no agent runs: its clock begins anew with it."""
        window = f"unix:///proc/{self.node.pid}/root/{agent.WINDOW}"
        with contextlib.suppress(CliError, OSError):
            Daemon(window, timeout=60.0).call("POST", "advance-clock", seconds=str(seconds))

    # --- pods ---

    def pod_uid(self, slot: int) -> str:
        """Of the slot's pod object, which is made if there is none. Raises KubeError."""
        if slot not in self.uids:
            created = self.lab.kubernetes.create_pod(self._object(f"p{slot}"))
            self.uids[slot] = str(created["metadata"]["uid"])
            self.unwanted.discard(f"p{slot}")
        return self.uids[slot]

    def report(self) -> None:
        """What kubelets say of pods; one that does not reach the API server says it later.

        A pod whose sandbox has ended waits for another one, which a kubelet would make at once.
        """
        for slot in self.uids:
            sandbox = self.pods.get(slot)
            addresses = () if sandbox is None else sandbox.addresses
            phase = "Running" if addresses else "Pending"
            status = {"phase": phase, "podIPs": [{"ip": a} for a in addresses] or None}
            with contextlib.suppress(KubeError):
                self.lab.kubernetes.report_pod(self.name, f"p{slot}", status)

    def forget_object(self, slot: int) -> None:
        """Delete the slot's pod object; later, if the API server is away."""
        if self.uids.pop(slot, None) is not None:
            self.unwanted.add(f"p{slot}")
            self.delete_unwanted()

    def delete_unwanted(self) -> None:
        for name in sorted(self.unwanted):
            with contextlib.suppress(KubeError):
                self.lab.kubernetes.delete_pod(self.name, name)
                self.unwanted.discard(name)

    def _object(self, name: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"nodeName": self.name, "containers": [{"name": "main", "image": "localhost/none"}]},
        }

    def refused(self, command: str, sandbox: Sandbox, error: Exception) -> str:
        """Note a failure for the next quiet moment, which looks for its cause; its first words."""
        words = str(error)
        with self.lock:
            self.refusals.append(Refusal(command, sandbox, words))
        return f"{command} of {sandbox.name} refused: {words[:160]}"

    def cut(self, sandbox: Sandbox) -> None:
        """Told before a step takes the sandbox's link from under it."""
        sandbox.cut_at = min(sandbox.cut_at, time.time())
        self.linkless.append(sandbox)

    # --- the kernel ---

    def netns_fd(self) -> int:
        return self.lab.netns_fd(self.name)

    def exec(self, *argv: str) -> str:
        """Output of a program in the node; what it says on failure as well."""
        done = self.node.exec(list(argv))
        return done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}"

    def shell(self, line: str) -> str:
        """What a line for sh(1) in the node prints, without what it complains of."""
        return self.node.exec(["sh", "-c", line]).stdout.strip()

    def link_with(self, mac: str) -> tuple[int, str] | None:
        """Number and name of the node's link with this MAC."""
        for line in self.exec("ip", "-o", "link").splitlines():
            if mac in line:
                number, name, _ = line.split(":", 2)
                return int(number), name.split("@")[0].strip()
        return None

    def log_size(self) -> int:
        """Of the agent, in bytes."""
        return self.node.directory.outside(agent.LOG).stat().st_size

    def log_since(self, offset: int) -> str:
        with self.node.directory.outside(agent.LOG).open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    def link_of(self, sandbox: Sandbox) -> str:
        """The host link's name, as the ADD's result says."""
        interfaces = (sandbox.result or {}).get("interfaces", ())
        return next((i["name"] for i in interfaces if not i.get("sandbox")), "")

    def agent_fds(self) -> dict[str, int]:
        """Descriptors of the agent by what they are: ``socket``, ``anon_inode:bpf-map``, ``net``, files."""
        pid, found = self.node.agent_pid, dict[str, int]()
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{number}")
                kind = target.split("[")[0].rstrip(":") if not target.startswith("/") else target
                found[kind] = found.get(kind, 0) + 1
        return found
