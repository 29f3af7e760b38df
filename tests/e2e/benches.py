"""Nodes set up for one question, raw calls of the CNI executable, and a picture of what must not change."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyroute2 import IPRoute

from control.cli.client import Daemon
from datapath import namespace
from lab.client import Lab
from lab.cni_call import BIN_DIR, Attachment
from lab.nodes import agent
from lab.nodes.node import LabNode
from lab.sandbox import NETNS_DIR
from lab.spec import NodeSpec
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, cloud_enis, settled, state, until

_numbers = itertools.count(1)

QUIET = {"ip_pool_sync_period": "24h"}
"""No pool sync, so that idle addresses stay where a test put them."""


@contextlib.contextmanager
def bench(lab: Lab, *, instance_type: str = "ecs.g7.xlarge", **changes: Any) -> Iterator[Bench]:
    """A node of its own, IPv4 only and without spare addresses unless ``changes`` of eni_conf say so.

    Configured, its agent not started. Afterwards no fault and nothing of the node is left.
    """
    name = f"bench{next(_numbers)}"
    made = Bench(lab, lab.add_node(NodeSpec(name, instance_type=instance_type)))
    try:
        made.configure(**{"max_pool_size": 0, **QUIET, **changes})
        yield made
    finally:
        lab.cloud.clear_faults()
        for pod in lab.pods():
            if pod.node.name == name:
                lab.kubernetes.delete_pod(pod.record.namespace, pod.record.name)
        lab.remove_node(name)


@contextlib.contextmanager
def roomy(lab: Lab, **changes: Any) -> Iterator[Bench]:
    """Dual stack, with addresses to spare, which may be used again at once, and room for many pods."""
    with bench(
        lab,
        instance_type="ecs.g7.4xlarge",
        **{"ip_stack": "dual", "max_pool_size": 9, "ip_cool_down": "0s", **changes},
    ) as made:
        made.start()
        made.pod("steady")
        yield made


@contextlib.contextmanager
def undisturbed(made: Bench) -> Iterator[Bench]:
    """Settled before; afterwards the witnesses agree and the fabric has dropped nothing of the node's."""
    settled(made.node)
    yield made
    assert_agree(made.lab, made.node)
    assert not made.drops()


@dataclass(frozen=True, slots=True)
class System:
    """Everything of a node that a failed request must leave as it was."""

    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    enis: Mapping[str, frozenset[str]]
    """In the cloud: id to addresses."""
    attachments: frozenset[str]


def system(lab: Lab, node: LabNode) -> System:
    """As kernel and cloud show it now, and the ledger if the agent runs.

    Without what comes and goes by itself: links that wait to be removed in one batch, and the kernel's own
    link-local routes, which follow a link's coming up by a second or two.
    """
    fd = lab.netns_fd(node.name)
    try:
        with namespace.entered(fd), IPRoute() as netlink:
            links = frozenset(x.get_attr("IFLA_IFNAME") for x in netlink.get_links())
            routes = frozenset(_route(r) for f in _FAMILIES for r in netlink.get_routes(family=f))
            rules = frozenset(_rule(r) for f in _FAMILIES for r in netlink.get_rules(family=f))
    finally:
        os.close(fd)
    enis = {i: frozenset(e["addresses"]) for i, e in cloud_enis(lab, node).items()}
    known = state(node)["attachments"] if _serves(node) else []
    links = frozenset(name for name in links if not name.startswith("doomed"))
    routes = frozenset(r for r in routes if " fe80::" not in r and " ff00::" not in r)
    return System(links, routes, rules, enis, frozenset(a["container_id"] for a in known))


def _serves(node: LabNode) -> bool:
    return node.agent_pid is not None and node.agent_get("/readyz")[0] == 200


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _route(message: Any) -> str:
    table, dst, oif = (message.get_attr(a) for a in ("RTA_TABLE", "RTA_DST", "RTA_OIF"))
    return f"{table} {dst}/{message['dst_len']} {oif}"


def _rule(message: Any) -> str:
    names = ("FRA_PRIORITY", "FRA_SRC", "FRA_DST", "FRA_TABLE", "FRA_IIFNAME")
    return " ".join(str(message.get_attr(n)) for n in names)


@contextlib.contextmanager
def unchanged(made: Bench) -> Iterator[None]:
    """What happens inside leaves no trace in kernel, cloud or ledger, and the three agree."""
    before = system(made.lab, made.node)
    yield
    if _serves(made.node):
        settled(made.node)
    until(lambda: _differences(before, system(made.lab, made.node)), lambda found: not found)
    if _serves(made.node):
        assert_agree(made.lab, made.node)


def _differences(before: System, now: System) -> list[str]:
    """One line per part that is not as it was: what is gone, and what has come."""
    pairs = ((name, getattr(before, name), getattr(now, name)) for name in System.__slots__)
    flat = ((n, set(_flat(b)), set(_flat(a))) for n, b, a in pairs)
    return [f"{n}: gone {b - a or ''}, new {a - b or ''}" for n, b, a in flat if a != b]


def _flat(part: frozenset[str] | Mapping[str, frozenset[str]]) -> Iterable[str]:
    if isinstance(part, frozenset):
        return part
    return (f"{eni} {address}" for eni, addresses in part.items() for address in ("", *addresses))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a runtime gets of one run of the executable."""

    code: int
    stdout: str

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.stdout)
        assert isinstance(value, dict), self.stdout
        return value

    def assert_error(self, code: int, *words: str, version: str = "0.4.0") -> dict[str, Any]:
        """Exit status 1, one JSON object of ``version`` with ``code`` and, in msg or details, each word."""
        assert self.code == 1, self.stdout
        assert self.stdout.count("\n") == 1, "one line"
        error = self.json
        assert set(error) == {"cniVersion", "code", "msg", "details"}
        assert (error["cniVersion"], error["code"]) == (version, code), self.stdout
        for word in words:
            assert word in f"{error['msg']}; {error['details']}", self.stdout
        return error


CONF = {"cniVersion": "0.4.0", "name": "terway", "type": "terway", "eniip_virtual_type": "PolicyRoute"}


def conf(version: str, **more: Any) -> str:
    """A network configuration as a runtime writes it to stdin, with ``more``."""
    return json.dumps({**CONF, "cniVersion": version, **more})


@dataclass
class Sandbox:
    """A pod object and a namespace of it, and calls of the executable that may be as wrong as one likes."""

    made: Bench
    attachment: Attachment
    name: str

    def call(self, command: str, *, stdin: str | None = None, **env: str | None) -> Answer:
        """``env`` replaces variables; None leaves one out. ``stdin`` replaces the configuration."""
        variables = {**self.attachment.environment(command), **env}
        done = self.made.node.exec(
            [f"{BIN_DIR}/terway"],
            stdin=json.dumps(CONF) if stdin is None else stdin,
            env={k: v for k, v in variables.items() if v is not None},
            timeout=130.0,
        )
        assert done.stderr == "", "the executable says nothing but on stdout"
        return Answer(done.returncode, done.stdout)

    def fd(self) -> int:
        return self.made.node.sandbox_fd(self.name)


@contextlib.contextmanager
def sandbox(made: Bench, name: str = "raw", *, create_object: bool = True) -> Iterator[Sandbox]:
    """What a runtime has before it calls ADD. Afterwards deleted as a runtime does."""
    where = made.node.name
    uid = str(uuid.uuid4())
    if create_object:
        uid = str(made.lab.kubernetes.create_pod(pod_object(made, name))["metadata"]["uid"])
    attachment = Attachment(uuid.uuid4().hex, "", where, name, uid)
    netns = f"cni-{uuid.uuid4()}"
    os.close(made.node.add_sandbox(netns))
    held = Sandbox(made, replace(attachment, netns=f"{NETNS_DIR}/{netns}"), netns)
    try:
        yield held
    finally:
        if made.node.agent_pid is not None:
            held.call("DEL", CNI_NETNS=None)
        made.node.remove_sandbox(netns)
        made.lab.kubernetes.delete_pod(where, name)


def pod_object(made: Bench, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": made.node.name},
        "spec": {"nodeName": made.node.name, "containers": [{"name": "main", "image": "localhost/none"}]},
    }


def agent_run(
    node: LabNode, *args: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One terwayd to its end, beside whatever runs."""
    return node.exec(
        [sys.executable, "-m", "control.agent.main", *args],
        env={**agent.environment(node.name), **(env or {})},
        timeout=30.0,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """terwayd ended with status 1 and one line that holds every word."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("terwayd: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def match_clocks(made: Bench) -> float:
    """Move the daemon's clock to the cloud's, which other tests have moved on; seconds since the epoch."""
    window = f"unix:///proc/{made.node.pid}/root/{agent.WINDOW}"
    daemon = Daemon(window)
    now = float(daemon.call("POST", "advance-clock", seconds="0"))
    lead = max(0.0, made.lab.cloud.advance(0) - now)
    return float(daemon.call("POST", "advance-clock", seconds=str(lead)))


def events(made: Bench, name: str) -> list[dict[str, Any]]:
    """Of a pod of the node, as Kubernetes has them."""
    items = made.lab.kubernetes.request("GET", f"/api/v1/namespaces/{made.node.name}/events")["items"]
    return [e for e in items if e["involvedObject"]["name"] == name]
