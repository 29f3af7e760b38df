"""One release after another in a cluster as its operator does it: manifests of that release, an image of it.

Back to the release before goes by the steps of docs/install.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.client import Lab
from lab.kubernetes import kubectl, manifest, product
from lab.nodes.node import LabNode
from tests.e2e.cluster_site import window
from tests.e2e.witnesses import until

_IN_SYSTEM = "--namespace=kube-system"


@dataclass(frozen=True, slots=True)
class Release:
    tag: str
    """Of its image, which every node has."""
    manifests: Path

    def install(self, lab: Lab) -> None:
        """As ``helm upgrade`` does: all of its objects. Node by node, until the last agent serves."""
        items = [product.helms(product.given(item)) for item in manifest.read(self.manifests)]
        for item in items:
            if item["kind"] == "DaemonSet":
                pod = item["spec"]["template"]["spec"]
                for container in (*pod["initContainers"], *pod["containers"]):
                    container["image"] = self.tag
        manifest.apply(lab, items)
        kubectl.run(lab, ["rollout", "status", _IN_SYSTEM, "daemonset/terway", "--timeout=120s"])


def ready_for_the_release_before(lab: Lab) -> None:
    """Each agent writes its ledger for it, and the stack carries the packets."""
    fast_path(lab, "off")
    for node in lab.nodes:
        in_agent(lab, node, "ledger", "downgrade")


def fast_path(lab: Lab, word: str) -> None:
    for node in lab.nodes:
        in_agent(lab, node, "fastpath", word)
        until(lambda: window(node, "/fastpath")["state"], lambda now: now == word)  # noqa: B023


def in_agent(lab: Lab, node: LabNode, *words: str) -> str:
    """``terway-cli`` in the agent's pod of ``node``, as docs/install.md has it."""
    return kubectl.run(lab, ["exec", _IN_SYSTEM, agent_of(lab, node), "--", "terway-cli", *words])


def agent_of(lab: Lab, node: LabNode) -> str:
    chosen = ["--selector=app=terway", f"--field-selector=spec.nodeName={node.name}", "--output=name"]
    return kubectl.run(lab, ["get", "pods", _IN_SYSTEM, *chosen]).strip()
