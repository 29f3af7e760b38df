"""One call of the CNI plugins of a node, as libcni makes it for containerd.

Recorded from containerd 1.6: CNI_ARGS in random order, the plugin's dictionary with sorted keys plus ``name``
and ``cniVersion`` on stdin, ``runtimeConfig`` for the capabilities a plugin declares, DEL through the chain
in reverse with the final result as ``prevResult``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.messages import LabError
from lab.nodes.process import Scratch
from lab.nodes.remote import RemoteNode

CONF_DIR = "/etc/cni/net.d"
BIN_DIR = "/opt/cni/bin"
_TIMEOUT = 130.0
_ANSWERS_TO_DEL = (0, 4, 0)
"""From this version on a DEL carries ``prevResult``."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Network:
    """A network configuration list; a single .conf is a list of one."""

    name: str
    version: str
    plugins: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a runtime says about one interface of one sandbox. ``netns`` "" if there is none (any more)."""

    container_id: str
    netns: str
    namespace: str
    name: str
    uid: str
    ifname: str = "eth0"
    runtime_config: Mapping[str, Any] = field(default_factory=dict)

    def environment(self, command: str) -> dict[str, str]:
        args = [
            "IgnoreUnknown=1",
            f"K8S_POD_NAMESPACE={self.namespace}",
            f"K8S_POD_NAME={self.name}",
            f"K8S_POD_INFRA_CONTAINER_ID={self.container_id}",
            f"K8S_POD_UID={self.uid}",
        ]
        random.shuffle(args)
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_PATH": BIN_DIR,
            "CNI_ARGS": ";".join(args),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one plugin. ``seconds``: from its start to its end, by process 1 of the node."""

    command: str
    code: int
    stdout: str
    stderr: str
    seconds: float

    def json(self) -> Json:
        """The JSON object on stdout, {} for none. Raises LabError for anything else."""
        if not self.stdout.strip():
            return {}
        try:
            value = json.loads(self.stdout)
        except ValueError as exc:
            raise LabError(f"CNI {self.command}: stdout is not one JSON object: {self.stdout!r}") from exc
        if not isinstance(value, dict):
            raise LabError(f"CNI {self.command}: stdout is not an object: {self.stdout!r}")
        return value


class CniError(LabError):
    """A plugin failed. ``code``, ``msg`` and ``details`` are its CNI error's, code 0 if it gave none."""

    def __init__(self, outcome: Outcome) -> None:
        try:
            error = outcome.json()
        except LabError:
            error = {}
        self.outcome = outcome
        self.code = int(error.get("code", 0))
        self.msg = str(error.get("msg", outcome.stdout or outcome.stderr or "no output"))
        self.details = str(error.get("details", ""))
        super().__init__(
            f"CNI {outcome.command} failed with code {self.code}: {self.msg}"
            + (f"; {self.details}" if self.details else "")
        )


def network_of(node: RemoteNode) -> Network:
    """The first configuration in the node's CONF_DIR, as containerd takes it. Raises LabError."""
    directory = node.directory.outside(CONF_DIR)
    files = sorted(p for p in directory.iterdir() if p.suffix in (".conf", ".conflist", ".json"))
    if not files:
        raise LabError(
            f"node {node.name}: no CNI configuration in {CONF_DIR}; the agent puts it there once it serves"
        )
    return parse_network(json.loads(files[0].read_text()))


def parse_network(conf: Json) -> Network:
    version = str(conf.get("cniVersion", ""))
    plugins = conf.get("plugins", [conf])
    return Network(str(conf.get("name", "")), version, tuple(plugins))


def call(node: RemoteNode, plugin: Json, attachment: Attachment, command: str, *, stdin: str = "") -> Outcome:
    """Run one plugin. ``stdin`` replaces ``plugin`` as its input, as it stands."""
    program = f"{BIN_DIR}/{plugin['type']}"
    text = stdin or json.dumps(plugin, sort_keys=True, separators=(",", ":"))
    with Scratch(text.encode()) as source, Scratch() as out, Scratch() as err:
        env = attachment.environment(command)
        with node.spawn([program], (source.fd, out.fd, err.fd), env=env) as process:
            code = process.wait(_TIMEOUT)
        stdout, stderr = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        return Outcome(command, code, stdout, stderr, process.seconds)


def add(node: RemoteNode, network: Network, attachment: Attachment) -> tuple[Json, float]:
    """ADD through the chain: its result and the seconds of all plugins. Raises CniError."""
    result: Json | None = None
    seconds = 0.0
    for plugin in network.plugins:
        outcome = call(node, _input(network, plugin, attachment, result), attachment, "ADD")
        if outcome.code != 0:
            raise CniError(outcome)
        result = outcome.json()
        seconds += outcome.seconds
    return result or {}, seconds


def delete(node: RemoteNode, network: Network, attachment: Attachment, result: Json | None) -> float:
    """DEL through the chain in reverse; ``result`` is the ADD's, None if the runtime lost it.

    The seconds of all plugins. Raises CniError.
    """
    seconds = 0.0
    known = result if _number(network.version) >= _ANSWERS_TO_DEL else None
    for plugin in reversed(network.plugins):
        outcome = call(node, _input(network, plugin, attachment, known), attachment, "DEL")
        if outcome.code != 0:
            raise CniError(outcome)
        seconds += outcome.seconds
    return seconds


def check(node: RemoteNode, network: Network, attachment: Attachment, result: Json) -> None:
    """Raises CniError."""
    for plugin in network.plugins:
        outcome = call(node, _input(network, plugin, attachment, result), attachment, "CHECK")
        if outcome.code != 0:
            raise CniError(outcome)


def _input(network: Network, plugin: Json, attachment: Attachment, previous: Json | None) -> Json:
    conf = {**plugin, "name": network.name, "cniVersion": network.version}
    wanted = {
        name: attachment.runtime_config[name]
        for name, on in plugin.get("capabilities", {}).items()
        if on and name in attachment.runtime_config
    }
    if wanted:
        conf["runtimeConfig"] = wanted
    if previous is not None:
        conf["prevResult"] = previous
    return conf


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in (version or "0.1.0").split("."))
