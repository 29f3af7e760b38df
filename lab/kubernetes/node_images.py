"""Images in a node's containerd, in the namespace that the kubelet's containers are of."""

from __future__ import annotations

import os
from pathlib import Path

from lab import messages
from lab.messages import LabError
from lab.nodes.remote import RemoteNode

_CTR = ("ctr", "--namespace", "k8s.io", "images")
_DEADLINE = 600.0
"""Seconds for one import: it bounds what is broken, not what is slow."""


def import_image(node: RemoteNode, archive: Path) -> None:
    """A docker-archive or OCI archive of the machine into the node's containerd. Raises LabError."""
    argv = [*_CTR, "import", "-"]
    out = os.memfd_create("ctr", os.MFD_CLOEXEC)
    try:
        source = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        os.close(out)
        raise LabError(f"node {node.name}: no image {archive}: {exc.strerror}") from exc
    try:
        with node.spawn(argv, (source, out, out)) as process:
            status = process.wait(_DEADLINE)
        if status != 0:
            said = os.pread(out, 4096, 0).decode(errors="replace").strip().splitlines()
            raise LabError(f"node {node.name}: ctr does not import {archive}: {said[-1] if said else status}")
    finally:
        messages.close([source, out])


def image_names(node: RemoteNode) -> set[str]:
    """Full names, e.g. ``docker.io/library/web:1``, and digests."""
    return set(node.exec([*_CTR, "ls", "-q"], check=True).stdout.split())


def tag(node: RemoteNode, name: str, other: str) -> None:
    """Another name for an image that is there."""
    node.exec([*_CTR, "tag", "--force", name, other], check=True)
