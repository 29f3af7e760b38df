"""A node that foreign hands will meddle with, three pods of it, and another node with one to talk to."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.nodes import agent
from lab.nodes.node import LabNode
from lab.sandbox import LabPod, PodOptions
from lab.spec import NodeSpec

NAMESPACE = "drift"
AWAY = "away"
BY_STACK = PodOptions(annotations={"k8s.aliyun.com/fast-path": "off"})
QUIET = {"ip_pool_sync_period": "24h", "max_pool_size": 5}
"""No pool sync while objects are looked at."""
_RUN_TIMEOUT = 60.0


def start_agent(node: LabNode, *, bpf: str, env: dict[str, str] | None = None) -> None:
    node.start_agent(("-bpf", "off") if bpf == "off" else (), env=env)


def new_node(lab: Lab, name: str, stack: str) -> LabNode:
    """Configured; its agent is not started."""
    node = lab.add_node(NodeSpec(name))
    node.install_cni()
    node.write_config(agent.eni_conf(lab.spec, ip_stack=stack, **QUIET))
    return node


class Scene:
    """``one`` is the pod that is meddled with, ``two`` its neighbour; the stack carries all of ``routed``.

    ``names`` are what an alteration may call by name, such as ``{link}``, the host link of ``one``.
    """

    def __init__(
        self, lab: Lab, name: str, far: LabPod, *, stack: str, bpf: str, env: dict[str, str] | None = None
    ) -> None:
        self.lab, self.far, self.stack, self.bpf, self.env = lab, far, stack, bpf, env
        self._held = ExitStack()
        self.node = new_node(lab, name, stack)
        try:
            start_agent(self.node, bpf=bpf, env=env)
            self.one = lab.add_pod(name, NAMESPACE, f"{name}-one")
            self.two = lab.add_pod(name, NAMESPACE, f"{name}-two")
            self.routed = lab.add_pod(name, NAMESPACE, f"{name}-routed", BY_STACK)
            self.netns = self.node.netns_fd()
            self._held.callback(os.close, self.netns)
            self.root = Path(f"/proc/{self.node.pid}/root")
            self.pins = self.root / "sys/fs/bpf/terway"
            self.names = self._names()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """The node goes, and its pods with it."""
        self._held.close()
        for pod in self.lab.pods():
            if pod.node.name == self.node.name:
                self.lab.kubernetes.delete_pod(pod.record.namespace, pod.record.name)
                self.lab.call("drop_pod", key=pod.key)
        self.lab.remove_node(self.node.name)

    @property
    def pods(self) -> tuple[LabPod, ...]:
        return self.one, self.two, self.routed

    @property
    def layout(self) -> Path:
        """Where the maps and programs are pinned."""
        found = sorted(self.pins.glob("v*"))
        return found[-1] if found else self.pins / "v0"

    def number(self, name: str) -> int:
        return int(self.names[name])

    def run(self, text: str, *, check: bool = True) -> str:
        """Lines for sh(1) in the node's network namespace; what they print. Raises CalledProcessError."""
        with namespace.entered(self.netns):
            done = subprocess.run(
                ["sh", "-ec", text.format_map(self.names)],
                capture_output=True,
                text=True,
                timeout=_RUN_TIMEOUT,
                check=False,
            )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        return done.stdout

    def restart_agent(self) -> None:
        self.node.stop_agent()
        start_agent(self.node, bpf=self.bpf, env=self.env)

    def _names(self) -> dict[str, str]:
        state = json.loads(self.node.agent_get("/state")[1])
        hosts = {a["pod_name"]: a["host_link"] for a in state["attachments"]}
        one, two = (hosts[pod.record.name] for pod in (self.one, self.two))
        (serving,) = (e for e in state["enis"] if e["id"] == self._eni_of(state))
        with namespace.entered(self.netns), IPRoute() as netlink:
            links = {x.get_attr("IFLA_IFNAME"): x for x in netlink.get_links()}
        (eni,) = (n for n, x in links.items() if x.get_attr("IFLA_ADDRESS") == serving["mac"])
        gateways = {str(ip_address(c["gateway"]).version): c["gateway"] for c in self.one.result["ips"]}
        in_cloud = next(e for e in self.lab.cloud.state()["enis"] if e["id"] == serving["id"])
        home = next(ip_address(a) for a in json.loads(self.node.agent_get("/mode")[1])["node"]["addresses"])
        return {
            "link": one,
            "index": str(links[one]["index"]),
            "mac": links[one].get_attr("IFLA_ADDRESS"),
            "container": self.one.container_id,
            "other": two,
            "other_index": str(links[two]["index"]),
            "eni": eni,
            "eni_index": str(links[eni]["index"]),
            "eni_mac": serving["mac"],
            "eni_id": serving["id"],
            "eni_ip": in_cloud["addresses"][0],
            "table": str(1000 + links[eni]["index"]),
            "home": "eth0",
            "home4": str(home),
            "ip4": str(self.one.ipv4),
            "ip6": str(self.one.ipv6),
            "two4": str(self.two.ipv4),
            "far4": str(self.far.ipv4),
            "far6": str(self.far.ipv6),
            "spare4": "10.0.16.222",
            "spare6": "2001:db8:10:1::222",
            "gw4": gateways["4"],
            "gw6": gateways.get("6", "::"),
            "root": str(self.root),
            "pins": str(self.pins),
            "layout": str(self.layout),
            "pod": f"{self.root}/run/netns/{self.one.record.sandbox}",
        }

    def _eni_of(self, state: dict[str, list[dict[str, str]]]) -> str:
        return next(a["eni"] for a in state["attachments"] if a["pod_name"] == self.one.record.name)


def far_pod(lab: Lab, *, stack: str, bpf: str) -> LabPod:
    """Of a node that nobody meddles with."""
    node = new_node(lab, AWAY, stack)
    start_agent(node, bpf=bpf)
    return lab.add_pod(AWAY, NAMESPACE, "far")
