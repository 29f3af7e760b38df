"""``./run cluster load``: a user's own image into every node, since no registry is in reach of them."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab import commands
from lab.client import Lab
from lab.kubernetes import image_file
from lab.kubernetes.archive import architecture
from lab.kubernetes.commands import typed
from lab.kubernetes.node_images import image_names, import_image, tag
from lab.kubernetes.wording import counted
from lab.messages import LabError
from lab.nodes.node import LabNode

_GIB = 1 << 30
_COPIES = 3
"""Times its own size that an archive takes in a node: its content, and its layers unpacked."""
_REGISTRY = "docker.io"


@dataclass(frozen=True, slots=True)
class Loaded:
    """``lacking``: by node, why it has not got them."""

    names: tuple[str, ...]
    nodes: tuple[str, ...]
    lacking: dict[str, str]


def load(lab: Lab, archive: Path) -> Loaded:
    """Into every node that runs. Raises LabError for an archive that no node could use."""
    with image_file.plain(archive, lab.directory.root) as tar:
        found = image_file.contents(tar, archive)
        check(found, archive)
        running = {node["name"]: bool(node["running"]) for node in lab.status()["nodes"]}
        _check_disk(lab.directory.root, tar, sum(running.values()))
        lacking = {name: _off(lab, name) for name, runs in running.items() if not runs}
        nodes = [lab.node(name) for name, runs in running.items() if runs]
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="load") as pool:
            outcomes = pool.map(lambda node: _into(node, tar, found.names), nodes)
            lacking |= {node.name: why for node, why in zip(nodes, outcomes, strict=True) if why}
    loaded = tuple(node.name for node in nodes if node.name not in lacking)
    return Loaded(found.names, loaded, lacking)


def check(found: image_file.Contents, archive: Path) -> None:
    """Raises LabError if a pod could not name it, or this machine not run it."""
    if not found.names:
        raise LabError(
            f"the image in {archive} has no name that a pod could ask for; save it by one, as in "
            "`docker save NAME:TAG`"
        )
    if found.architectures and architecture() not in found.architectures:
        others = ", ".join(sorted(found.architectures))
        raise LabError(f"{archive} is for {others}, and this machine is {architecture()}")


def full_name(name: str) -> str:
    """As containerd and kubelet complete a short one: ``web`` is ``docker.io/library/web:latest``."""
    host, slash, _ = name.partition("/")
    if not slash:
        name = f"{_REGISTRY}/library/{name}"
    elif host != "localhost" and not set(".:") & set(host):
        name = f"{_REGISTRY}/{name}"
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def _into(node: LabNode, tar: Path, names: tuple[str, ...]) -> str:
    """ "" if the node has all names now, else why not."""
    try:
        import_image(node, tar)
        _complete_names(node, names)
        missing = set(map(full_name, names)) - image_names(node)
    except (LabError, OSError, subprocess.SubprocessError) as exc:
        return " ".join(str(exc).split())
    return f"containerd took the archive, and does not list {', '.join(sorted(missing))}" if missing else ""


def _complete_names(node: LabNode, names: tuple[str, ...]) -> None:
    """containerd completes short names of a docker-archive, and not those of an OCI archive."""
    there = image_names(node)
    for name in names:
        if full_name(name) not in there and name in there:
            tag(node, name, full_name(name))


def _off(lab: Lab, name: str) -> str:
    return f"it is off; boot it with `{commands.typed(lab.name, 'node reboot', name)}`"


def _check_disk(directory: Path, tar: Path, nodes: int) -> None:
    wanted, free = _COPIES * nodes * tar.stat().st_size, shutil.disk_usage(directory).free
    if free < wanted:
        raise LabError(
            f"{directory} has {free / _GIB:.1f} GiB free, and the image in {counted(nodes, 'node')} may take "
            f"{wanted / _GIB:.1f}: make room there, or have the cluster on another disk by TERWAY_LAB_DIR"
        )


def render(lab: Lab, loaded: Loaded, archive: Path) -> str:
    """What can be run now, and how; what a node lacks, and how it gets it."""
    lines = []
    if loaded.nodes:
        lines.append(f"in {', '.join(loaded.nodes)}: {', '.join(loaded.names)}")
        lines.append(f"run it: `{typed(lab.name, run_words(loaded.names[0]))}`")
    lines += [f"{node} lacks it: {why}" for node, why in loaded.lacking.items()]
    if loaded.lacking:
        lines.append(
            f"then load it again: `{typed(lab.name, f'load {archive}')}`; nodes that have it keep it"
        )
    return "\n".join(lines)


def run_words(name: str) -> str:
    """A kubelet asks a registry for ``latest`` every time unless it is told not to."""
    never = " --image-pull-policy=Never" if full_name(name).endswith(":latest") else ""
    return f"kubectl run {_pod(name)} --image={name}{never}"


def _pod(name: str) -> str:
    """A name for a pod: the image's own, as far as it can be one."""
    short = name.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return "".join(c if c.isalnum() else "-" for c in short.lower()).strip("-") or "web"
