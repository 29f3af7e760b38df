"""The product as an operator installs it: its image in every node, manifests and configuration.

deploy/terway-lab.yaml is the chart with the values of the lab: where the cloud's API listens, and that nobody
pulls the image. The ConfigMap eni-config comes of the lab's specification: access key, vSwitches, group.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.image import cache, ingredients
from deploy.image.errors import ImageError
from lab.apiserver.port import Say
from lab.client import Lab
from lab.kubernetes import binaries, kubectl, manifest
from lab.kubernetes.manifest import Object
from lab.kubernetes.node_images import import_image
from lab.kubernetes.readiness import await_available, is_ready, wait_until
from lab.messages import LabError
from lab.nodes import agent

ROOT = Path(__file__).resolve().parent.parent.parent
MANIFESTS = ROOT / "deploy" / "terway-lab.yaml"
NAMESPACE = "kube-system"
DAEMON_SET = "terway"
SELECTOR = "app=terway"
CONFIG_MAP = "eni-config"
_SCARCE = {"SYS_RESOURCE": 24}
"""Capabilities, by their bit (linux/capability.h), that a virtual machine or container may lack."""


def archive(say: Say) -> Path:
    """The image of this source tree, built if that was another one. Raises LabError."""
    made = _archive()
    with cache.locked(made.parent):
        wanted = _ingredients()
        if not _is_of(made, wanted):
            say("building the product's image (the first time a minute, later seconds)")
            _told(made).unlink(missing_ok=True)
            _build(made)
            _told(made).write_text(wanted)
    return made


def needs_build() -> bool:
    """Whether ``archive`` would run programs to build. Raises LabError."""
    return not _is_of(_archive(), _ingredients())


def _archive() -> Path:
    return binaries.CACHE / "kubernetes" / "terway.tar"


def _told(made: Path) -> Path:
    """What ``made`` is made of, in a file beside it."""
    return made.with_suffix(".ingredients")


def _is_of(made: Path, wanted: str) -> bool:
    told = _told(made)
    return made.exists() and told.exists() and told.read_text() == wanted


def _ingredients() -> str:
    try:
        return ingredients.image()
    except ImageError as exc:
        raise LabError(f"no image: {exc}") from exc


def _build(made: Path) -> None:
    command = [sys.executable, "-m", "deploy.image", "--output", str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"no image: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")


def load(lab: Lab, image: Path) -> None:
    """Into every node's containerd. Raises LabError."""
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="import") as pool:
        for each in [pool.submit(import_image, node, image) for node in lab.nodes]:
            each.result()


def install(lab: Lab, cni: Object, say: Say) -> None:
    """Apply configuration and manifests; every node's agent is ready then. Raises LabError."""
    configure_first(lab, cni)
    apply(lab)
    say("waiting for the DaemonSet")
    await_available(lab, "daemonsets", NAMESPACE, DAEMON_SET, say, least=len(lab.nodes))
    say("terwayd is ready on every node")


def configure_first(lab: Lab, cni: Object) -> None:
    """eni-config as the lab's specification has it, before there is any."""
    data = agent.config_map(agent.eni_conf(lab.spec), cni)
    lab.kubernetes.put_config_map(NAMESPACE, CONFIG_MAP, data)


def configuration(lab: Lab) -> dict[str, str]:
    """The data of eni-config. Raises KubeError if there is none."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}"
    return dict(lab.kubernetes.request("GET", path)["data"])


def configure(lab: Lab, **changes: Any) -> None:
    """eni-config, with ``changes`` of its eni_conf. Agents read it when they start."""
    eni = json.dumps(agent.eni_conf(lab.spec, **changes), indent=2)
    lab.kubernetes.put_config_map(NAMESPACE, CONFIG_MAP, {**configuration(lab), "eni_conf": eni})


def restart(lab: Lab, say: Say) -> None:
    """Delete the agents' pods, as an operator does after a change of eni-config; new ones serve then.

    Raises LabError.
    """
    before = {pod["metadata"]["uid"] for pod in _agents(lab)}
    kubectl.run(lab, ["delete", "pods", f"--namespace={NAMESPACE}", f"--selector={SELECTOR}"])

    def waits_for() -> str:
        fresh = [pod for pod in _agents(lab) if pod["metadata"]["uid"] not in before]
        serving = sum(is_ready(pod) for pod in fresh)
        return "" if serving == len(lab.nodes) else f"{serving} of {len(lab.nodes)} new agents serve"

    wait_until(waits_for, say)


def _agents(lab: Lab) -> list[Object]:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={quote(SELECTOR)}"
    items: list[Object] = lab.kubernetes.request("GET", path)["items"]
    return items


def apply(lab: Lab) -> None:
    """Raises LabError with what kubectl complained of."""
    manifest.apply(lab, [helms(given(item)) for item in manifest.read(MANIFESTS)])


def helms(item: Object) -> Object:
    """Marked as Helm marks what is its own, so that `helm upgrade --install terway` takes it over.

    Without these it refuses ("invalid ownership metadata"). Source: helm.sh/docs/topics/advanced.
    """
    metadata = item["metadata"]
    labels = {**metadata.get("labels", {}), "app.kubernetes.io/managed-by": "Helm"}
    release = {"meta.helm.sh/release-name": DAEMON_SET, "meta.helm.sh/release-namespace": NAMESPACE}
    annotations = {**metadata.get("annotations", {}), **release}
    return {**item, "metadata": {**metadata, "labels": labels, "annotations": annotations}}


def given(item: Object, status: str | None = None) -> Object:
    """A DaemonSet without the capabilities that no process of this machine can be given; others as they are.

    A runtime starts no container that asks for more. ``status`` is a /proc/PID/status, by default our own.
    """
    if item["kind"] != "DaemonSet":
        return item
    text = Path("/proc/self/status").read_text() if status is None else status
    bounding = next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapBnd:"))
    for container in item["spec"]["template"]["spec"]["containers"]:
        wanted = container["securityContext"]["capabilities"]
        wanted["add"] = [
            name for name in wanted["add"] if name not in _SCARCE or bounding >> _SCARCE[name] & 1
        ]
    return item
