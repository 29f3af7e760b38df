"""Buildah with a storage of its own: nothing of it is seen by, or sees, other containers of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.image import base
from deploy.image.command import run
from deploy.image.stage import ROOT

_BASE = "localhost/terway-base:1"


class Buildah:
    def __init__(self, storage: Path, scratch: Path) -> None:
        """``storage`` keeps the base image; ``scratch`` is for one build."""
        self._command = ["buildah", "--storage-driver", "vfs"]
        self._command += ["--root", str(storage), "--runroot", str(scratch / "run")]

    def build_base(self, context: Path) -> None:
        """From ``context`` with system.tar and site-packages/. Raises ImageError."""
        self._bud(context, ROOT / "deploy" / "image" / "base.Containerfile", _BASE, ["--layers"])

    def build(self, context: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """``tag`` from ``context`` with product/, upon the base image. Raises ImageError."""
        told = [f"--build-arg={name}={value}" for name, value in {"BASE": _BASE, **arguments}.items()]
        self._bud(context, ROOT / "deploy" / "Containerfile", tag, told)

    def _bud(self, context: Path, recipe: Path, tag: str, options: Sequence[str]) -> None:
        usual = ["--isolation=chroot", "--pull=false", f"--timestamp={base.EPOCH}", "--quiet"]
        run([*self._command, "bud", *usual, *options, "--file", str(recipe), "--tag", tag, str(context)])

    def save(self, tag: str, path: Path) -> None:
        """As a docker-archive, for ``ctr images import`` and ``docker load``; the storage forgets it."""
        path.unlink(missing_ok=True)
        run([*self._command, "push", "--quiet", tag, f"docker-archive:{path}:{tag}"])
        run([*self._command, "rmi", tag])
