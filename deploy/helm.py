"""Helm, as the chart is rendered with it: what HELM names, or what ``lab.kubernetes.helm`` has built."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

VERSION = "3.22.0"
VARIABLE = "HELM"
CACHE = Path(__file__).resolve().parents[1] / ".cache"
BUILT = CACHE / "helm" / VERSION / "helm"
_KUBERNETES = "1.35.4"
"""The cluster that templates are rendered for; a Helm built this way believes in an old one."""


class HelmError(Exception):
    """Helm is not there, or what it complained of."""


def present() -> Path | None:
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else BUILT
    return path if path.is_file() else None


def run(helm: Path, arguments: Sequence[str]) -> str:
    """Standard output. Raises HelmError with what it complained of."""
    done = subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HelmError(f"helm {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def template(helm: Path, chart: Path, options: Sequence[str] = ()) -> str:
    """The manifests of ``chart`` as release terway in kube-system."""
    where = ["--namespace", "kube-system", "--kube-version", _KUBERNETES]
    return run(helm, ["template", "terway", str(chart), *where, *options])
