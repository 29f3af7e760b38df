"""A node with what its user does beside running things: power, the agent, configuration."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.connection import Connection
from lab.messages import LabError
from lab.nodes import agent
from lab.nodes.agent import Wait
from lab.nodes.process import NodeProcess
from lab.nodes.remote import SOURCE, RemoteNode

CNI_EXECUTABLE = SOURCE / "cni" / ".output" / "terway"

_CLI = f"""#!/bin/sh
PYTHONPATH={shlex.quote(str(SOURCE))} exec {shlex.quote(sys.executable)} -m control.cli.main "$@"
"""
"""terway-cli as a node's operator finds it on the PATH."""


def install_cli(node: RemoteNode) -> None:
    """terway-cli of this source tree. It asks the agent, be that a process of the node or a pod."""
    node.write("/opt/cni/bin/terway-cli", _CLI, mode=0o755)


class LabNode(RemoteNode):
    def __init__(self, lab: Connection, name: str) -> None:
        super().__init__(name, lab.directory.node(name))
        self._lab = lab

    # --- power ---

    def kill(self) -> None:
        """As pulling the plug: every process and kernel object is gone, the disk stays."""
        self._lab.call("kill_node", name=self.name)

    def reboot(self) -> None:
        """Kill if it runs, and boot: a new boot id, the primary ENI and all attached ENIs plugged in."""
        self._lab.call("reboot_node", name=self.name)

    def status(self) -> dict[str, Any]:
        for node in self._lab.status()["nodes"]:
            if node["name"] == self.name:
                found: dict[str, Any] = node
                return found
        raise LabError(f"no node {self.name!r} in lab {self._lab.name!r}")

    @property
    def instance_id(self) -> str:
        return str(self.status()["instance"])

    @property
    def address(self) -> str:
        """IPv4 address of the primary ENI."""
        return str(self.status()["address"])

    # --- the agent ---

    def install_cni(self, executable: Path = CNI_EXECUTABLE) -> None:
        """Put the CNI executable and terway-cli into /opt/cni/bin. Raises LabError if it is not built."""
        if not executable.exists():
            raise LabError(f"{executable} is not built; run `make -C cni`")
        target = self.directory.outside("/opt/cni/bin/terway")
        temporary = target.with_name(".terway.new")
        shutil.copy2(executable, temporary)
        temporary.rename(target)
        install_cli(self)

    def write_config(
        self, eni_conf: Mapping[str, Any] | None = None, cni_conf: Mapping[str, Any] | None = None
    ) -> None:
        """/etc/eni/eni_conf and /etc/eni/10-terway.conf, and both in the ConfigMap ``eni-config``.

        A ``cni_conf`` with ``plugins`` is a chain and becomes 10-terway.conflist.
        """
        conf = dict(agent.eni_conf(self._lab.spec) if eni_conf is None else eni_conf)
        cni = dict(agent.cni_conf() if cni_conf is None else cni_conf)
        data = agent.config_map(conf, cni)
        for stale in (agent.CONF, agent.CHAIN):
            if stale not in data:
                self.directory.outside(f"/etc/eni/{stale}").unlink(missing_ok=True)
        for file, text in data.items():
            self.write(f"/etc/eni/{file}", text, mode=0o600)
        self._lab.kubernetes.put_config_map("kube-system", "eni-config", data)

    def start_agent(
        self,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        wait: Wait = Wait.READY,
        timeout: float = agent.DEADLINE,
    ) -> NodeProcess:
        """Run terwayd detached: it outlives this client. Raises LabError with the end of its log."""
        self.write(agent.KUBECONFIG, self._lab.agent_kubeconfig(), mode=0o600)
        return agent.start(self, args, env=env, wait=wait, timeout=timeout)

    def stop_agent(self, number: int = signal.SIGTERM) -> bool:
        """Signal the agent and wait for its end. False if none runs."""
        return agent.stop(self, number)

    @property
    def agent_pid(self) -> int | None:
        return agent.pid(self)

    def agent_log(self) -> str:
        return self.read(agent.LOG)

    def agent_get(self, target: str) -> tuple[int, str]:
        """One GET from the agent's window, such as ``/metrics``: status and body."""
        return agent.get(Path(f"/proc/{self.pid}/root") / agent.WINDOW, target)
