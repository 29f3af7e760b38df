"""Buildah with a storage of its own: nothing of it is seen by, or sees, other containers of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.image import base
from deploy.image.command import run
from deploy.image.stage import ROOT

_BASE = "localhost/terway-base:1"


class Buildah:
    def __init__(self, directory: Path) -> None:
        """``directory`` holds the storage; it is removed by who made it."""
        self._command = ["buildah", "--storage-driver", "vfs"]
        self._command += ["--root", str(directory / "root"), "--runroot", str(directory / "run")]
        self._directory = directory

    def build(self, system: Path, context: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """``tag`` from ``context`` by deploy/Containerfile, upon the tar ``system``. Raises ImageError."""
        below = self._directory / "below"
        below.mkdir()
        (below / "system.tar").hardlink_to(system)
        (below / "Containerfile").write_text("FROM scratch\nADD system.tar /\n")
        self._bud(below, below / "Containerfile", _BASE, {})
        self._bud(context, ROOT / "deploy" / "Containerfile", tag, {"BASE": _BASE, **arguments})

    def _bud(self, context: Path, recipe: Path, tag: str, arguments: Mapping[str, str]) -> None:
        told = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        options = [
            "--isolation",
            "chroot",
            "--layers",
            "--pull=false",
            "--timestamp",
            str(base.EPOCH),
            "--quiet",
        ]
        run([*self._command, "bud", *options, *told, "--file", str(recipe), "--tag", tag, str(context)])

    def save(self, tag: str, path: Path) -> None:
        """As a docker-archive, which ``ctr images import`` and ``docker load`` read."""
        path.unlink(missing_ok=True)
        run([*self._command, "push", "--quiet", tag, f"docker-archive:{path}:{tag}"])
