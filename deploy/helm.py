"""Helm, built by the go command at a pinned version; the variable HELM names another one.

``python -m deploy.helm`` builds it if it is not there, and prints its path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.apiserver.port import Say
from lab.kubernetes import toolchain
from lab.messages import LabError

VERSION = "3.22.0"
VARIABLE = "HELM"
_CACHE = Path(__file__).resolve().parents[1] / ".cache"
_KUBERNETES = "1.35.4"
"""The cluster that templates are rendered for; a Helm built this way believes in an old one."""


def present() -> Path | None:
    """Without building anything."""
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else _CACHE / "helm" / VERSION / "helm"
    return path if path.is_file() else None


def ensure(say: Say) -> Path:
    """Raises LabError if it can neither be found nor built. Building takes two minutes on two cores."""
    found = present()
    if found is not None:
        return found
    directory = _CACHE / "helm" / VERSION
    directory.mkdir(parents=True, exist_ok=True)
    go = toolchain.find(_CACHE / "go", directory / "build.log", say)
    say(f"building Helm {VERSION}, two minutes on two cores")
    environment = {
        "GOCACHE": str(go.cache / "build"),
        "GOMODCACHE": str(go.cache / "mod"),
        **os.environ,
        "GOBIN": str(directory / "new"),
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    command = [str(go.command), "install", "-ldflags", "-s -w", f"helm.sh/helm/v3/cmd/helm@v{VERSION}"]
    with go.log.open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise LabError(f"Helm could not be built; the log is {go.log}. It needs a Go module proxy (GOPROXY)")
    made = (directory / "new" / "helm").rename(directory / "helm")
    made.with_name("new").rmdir()
    return made


def run(helm: Path, arguments: Sequence[str]) -> str:
    """Standard output. Raises LabError with what it complained of."""
    done = subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"helm {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def template(helm: Path, chart: Path, options: Sequence[str] = ()) -> str:
    """The manifests of ``chart`` as release terway in kube-system."""
    where = ["--namespace", "kube-system", "--kube-version", _KUBERNETES]
    return run(helm, ["template", "terway", str(chart), *where, *options])


if __name__ == "__main__":
    print(ensure(lambda text: print(text, file=sys.stderr)))
